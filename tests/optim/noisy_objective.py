"""An objective with noisy gradients, and training loops, for tests of first-order optimizers."""

import math

import numpy as np

from dbp.optim import State
from tests.optim.functions import Evaluated, Space

SHAPES = {
    "first/weight": (5, 7),
    "first/bias": (7,),
    "none": (0, 3),
    "second/weight": (7, 4),
    "second/bias": (4,),
    "kernel": (2, 2, 3, 5),
    "last/weight": (4, 3),
    "last/bias": (3,),
}
SIZE = sum(math.prod(shape) for shape in SHAPES.values())
STEPS = 12


class Noisy:
    """An objective of several parameters, whose gradient depends on step and weights.

    Args:
        dtype: of the weights.
        bad: steps whose gradient is not finite.
        shapes: of the parameters.
    """

    is_deterministic = False
    steps_per_epoch = 0

    def __init__(self, dtype=np.float64, bad=(), shapes=None):
        self.shapes = shapes or SHAPES
        self.size = sum(math.prod(shape) for shape in self.shapes.values())
        self.dtype, self.bad, self.calls, self.space = np.dtype(dtype), bad, 0, Space(self.size, self.shapes)
        self.start = np.random.default_rng(1).standard_normal(self.size).astype(dtype)

    def noise(self, call):
        return np.random.default_rng([2, call]).standard_normal(self.size).astype(self.dtype)

    def value_and_gradient(self, w, early=False):  # noqa: ARG002
        self.calls += 1
        if self.calls in self.bad:
            return Evaluated(np.full_like(w, np.nan), math.nan, finite=False)
        return Evaluated(self.noise(self.calls) + w, 1.0)

    def named(self, vector):
        parts = np.split(vector, np.cumsum([math.prod(shape) for shape in self.shapes.values()])[:-1])
        return {name: part.reshape(self.shapes[name]) for name, part in zip(self.shapes, parts, strict=True)}


def trained(method, objective=None, count=STEPS):
    """Return the weights after each step, and the state."""
    objective = objective or Noisy()
    method.check(objective.shapes)
    w = objective.start.copy()
    state, seen = State.of(method, lambda count: np.zeros((count, len(w)), w.dtype)), []
    updates = 0
    for _ in range(count):
        updates += method.step(objective, w, state, updates + 1, 1.0).done
        seen.append(w.copy())
    return seen, state


def alike(seen, expected, dtype):
    for found, flat in zip(seen, expected, strict=True):
        np.testing.assert_allclose(found, flat, rtol=2e-5 if dtype == np.float32 else 1e-11, atol=2e-6)
