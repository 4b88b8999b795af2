"""The model as trainable modules whose every value is the integer that the compiled network computes."""
