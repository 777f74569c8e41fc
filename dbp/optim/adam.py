"""Adam (Kingma and Ba 2015, Algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.errors import UserError
from dbp.optim.optimizer import FirstOrder, State, Vector, check_fraction, check_learning_rate


@dataclass(frozen=True)
class Adam(FirstOrder):
    """Steps by the running mean m of the gradient over the root of the running mean v of its square.

    m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;
    w = w - learning_rate m' / (sqrt(v') + epsilon),  m' = m / (1 - beta1^t),  v' = v / (1 - beta2^t).
    """

    kind: ClassVar[str] = "adam"
    vectors: ClassVar[tuple[str, ...]] = ("mean", "mean_square")
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

    def update(self, w: Vector, g: Vector, state: State, number: int, learning_rate: float) -> None:
        """One step on a piece."""
        m, v = state["mean"], state["mean_square"]
        np.multiply(m, self.beta1, out=m)
        np.add(m, (1 - self.beta1) * g, out=m)
        np.multiply(v, self.beta2, out=v)
        np.add(v, (1 - self.beta2) * g * g, out=v)
        size = np.sqrt(v)
        size *= (1 - self.beta2**number) ** -0.5
        size += self.epsilon
        np.divide(m, size, out=size)
        size *= learning_rate / (1 - self.beta1**number)
        np.subtract(w, size, out=w)
