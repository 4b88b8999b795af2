"""Loihi 2: what the chip allows, and the host side of running on it."""
