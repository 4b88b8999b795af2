"""What a run sent, clamped and overflowed: counted by token and node, kept beside a network."""
