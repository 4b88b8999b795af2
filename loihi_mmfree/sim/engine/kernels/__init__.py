"""Compiled kernels: the same integers as the NumPy specification, faster.

Nothing here is imported before a kernel is wanted, so that the package works without numba. numba compiles
for the machine at hand, once: the machine code is kept on disk (`objects`), and later runs do without numba.
"""
