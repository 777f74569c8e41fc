"""Models with trained weights: evaluation and prediction on all ranks."""
