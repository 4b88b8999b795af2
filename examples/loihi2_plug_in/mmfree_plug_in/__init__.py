"""A plug-in for loihi-mmfree's backend `loihi2`, in which the integer engine stands in for a board."""
