"""Adam (Kingma and Ba 2015, Algorithm 1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.errors import UserError
from dbp.optim.first_order import FirstOrder, Vectors, check_fraction, check_learning_rate
from dbp.optim.method import Vector


@dataclass(frozen=True)
class Adam(FirstOrder):
    """Steps by the running mean of the gradient over the root of the running mean of its square.

    m = beta1 m + g;  v = beta2 v + g^2, which are those means over 1 - beta1 and 1 - beta2, kept so because it
    takes two passes less;  w = w - learning_rate m' / (sqrt(v') + epsilon),
    m' = m (1 - beta1) / (1 - beta1^t),  v' = v (1 - beta2) / (1 - beta2^t).
    """

    kind: ClassVar[str] = "adam"
    vectors = ("gradients", "squares")
    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        check_learning_rate(self.learning_rate)
        check_fraction("beta1", self.beta1)
        check_fraction("beta2", self.beta2)
        if not self.epsilon > 0:
            raise UserError(f"epsilon must be positive, but is {self.epsilon}")

    def update(self, w: Vector, g: Vector, vectors: Vectors, number: int, learning_rate: float) -> None:
        """One step on a piece."""
        m, v = vectors["gradients"], vectors["squares"]
        np.multiply(m, self.beta1, out=m)
        np.add(m, g, out=m)
        np.multiply(v, self.beta2, out=v)
        size = np.multiply(g, g)
        np.add(v, size, out=v)
        if learning_rate == 0:  # at the end of a schedule
            return
        # Both corrections and the learning rate go into the divisor.
        scale = (1 - self.beta1**number) / ((1 - self.beta1) * learning_rate)
        np.sqrt(v, out=size)
        np.multiply(size, scale * math.sqrt((1 - self.beta2) / (1 - self.beta2**number)), out=size)
        np.add(size, scale * self.epsilon, out=size)
        np.divide(m, size, out=size)
        np.subtract(w, size, out=w)
