"""From text to a checkpoint: tokenizer, data, the loop over steps and its checkpoints."""
