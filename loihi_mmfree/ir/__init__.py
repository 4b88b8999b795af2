"""The lowered graph that runs: nodes, schedule, JSON, and the NumPy executor that specifies it."""
