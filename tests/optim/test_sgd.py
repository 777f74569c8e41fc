"""Momentum by its equations."""

import numpy as np

from dbp.optim import SGD
from tests.optim.functions import BOWL, steps


def minimize(method, function, start, count, schedule=None):
    return steps(method, function, start, count, schedule)[0]


def test_momentum_by_its_equations():
    w, v = np.array([3.0, -2.0]), np.zeros(2)
    for _ in range(7):
        v = 0.9 * v + w
        w = w - 0.1 * v
    np.testing.assert_allclose(minimize(SGD(0.1, 0.9), BOWL, [3, -2], 7), w)
