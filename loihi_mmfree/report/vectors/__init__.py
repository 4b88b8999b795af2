"""Vectors: what every neuron group and every sum of synapses must give for given inputs, for implementations."""
