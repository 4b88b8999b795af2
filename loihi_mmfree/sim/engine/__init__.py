"""The integer engine: the NumPy specification, and compiled kernels that give the same bits."""
