"""From a checkpoint to a lowered, scheduled graph that is proved to keep its bounds."""
