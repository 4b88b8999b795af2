"""Cores simulated by Verilator: built, kept, and driven."""
