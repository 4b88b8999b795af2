"""What walks a plan: the network function, its job, and objects kept on disk."""
