"""Lava processes and their ProcessModels. Lava executes every file of this folder: it holds nothing else."""
