"""What Lava's probes measure on a board, held against the models."""
