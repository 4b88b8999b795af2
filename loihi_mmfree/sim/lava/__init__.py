"""A compiled network as Lava processes, at three granularities."""
