"""Neuron programs as machine code."""
