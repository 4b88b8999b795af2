"""The float MatMul-free language model in plain PyTorch: the reference of all later stages, and trainable."""
