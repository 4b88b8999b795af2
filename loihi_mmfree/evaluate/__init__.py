"""How good a model is: perplexity and tasks, of the float model and of a network's integers, and both paired."""
