"""Loihi 2: every number about the chip, with unit, source and confidence."""
