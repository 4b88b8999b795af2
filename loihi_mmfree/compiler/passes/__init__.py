"""Compiler passes: pure functions from graph to graph, one file each."""
