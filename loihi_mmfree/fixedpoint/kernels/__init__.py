"""Compiled kernels: the same integers as the NumPy specification, faster.

Nothing here is imported before a kernel is wanted, so that the package works without numba. numba compiles
for the machine at hand and keeps the machine code in its own cache (`NUMBA_CACHE_DIR`).
"""
