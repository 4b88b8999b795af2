"""From a checkpoint to a placed, verified graph of synapses and neuron groups."""
