"""The float model's work on a GPU as Triton kernels, each with a gradient; held against plain PyTorch."""
