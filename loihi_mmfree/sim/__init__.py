"""Running a compiled network on this machine: the integer engine and Lava's CPU simulation."""
