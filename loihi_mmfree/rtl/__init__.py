"""The same network as hardware: a core in RTL generated from the lowered graph, its images, and its timing."""
