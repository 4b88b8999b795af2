"""A network over batches of sequences, in PyTorch: on a GPU as generated kernels, elsewhere as tensors."""
