"""Integer arithmetic of the chip: formats, primitives, tables and neuron programs."""
