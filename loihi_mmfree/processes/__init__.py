"""Lava processes and their ProcessModels. Lava executes every file of this folder: it holds nothing else."""

from loihi_mmfree.compatibility import mend_lava

mend_lava()
