"""Models with trained weights: evaluation and prediction over all ranks."""
