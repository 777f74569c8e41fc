"""Where derivatives meet ranks: the cost over all ranks, its derivatives, and the examples that it needs."""
