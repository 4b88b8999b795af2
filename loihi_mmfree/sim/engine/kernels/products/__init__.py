"""Ternary products and sums over packed weights."""
