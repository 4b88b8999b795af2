"""Formats found by measuring: the narrowest ones whose integers keep a budget of perplexity."""
