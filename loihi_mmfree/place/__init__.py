"""Placement: which neurons of which group sit on which core of which chip."""
