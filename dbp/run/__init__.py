"""A run on this rank: its data, weights, optimizer state and progress."""
