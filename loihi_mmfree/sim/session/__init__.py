"""Runs: backends, generation, sampling, recording, comparison."""
