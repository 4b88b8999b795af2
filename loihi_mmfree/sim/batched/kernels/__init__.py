"""Triton kernels, written from neuron programs."""
