"""Flat vectors that the ranks of a node share: their layout, who owns which part, and the space optimizers see."""
