"""Adam by its equations."""

import numpy as np

from dbp.optim import Adam
from tests.optim.functions import BOWL, steps


def minimize(method, function, start, count, schedule=None):
    return steps(method, function, start, count, schedule)[0]


def test_adam_by_its_equations():
    w, m, v = np.array([3.0, -2.0]), np.zeros(2), np.zeros(2)
    for t in range(1, 8):
        m, v = 0.8 * m + 0.2 * w, 0.95 * v + 0.05 * w**2
        w = w - 0.1 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-8)
    np.testing.assert_allclose(minimize(Adam(0.1, 0.8, 0.95), BOWL, [3, -2], 7), w)
