"""Sixty examples of three classes, for runs that take less than a second."""

import numpy as np

X = np.random.default_rng(0).standard_normal((60, 5))
Y = (X[:, 0] > X[:, 1]).astype(int) + (X[:, 2] > 0)
