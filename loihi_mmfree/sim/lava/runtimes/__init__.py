"""What runs Lava processes: Lava's own runtime, watched, or the same within one OS process."""
