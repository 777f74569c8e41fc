"""Stochastic gradient descent with momentum (Polyak 1964; Sutskever et al. 2013)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.optim.first_order import FirstOrder, Vectors, check_fraction, check_learning_rate
from dbp.optim.method import Vector


@dataclass(frozen=True)
class SGD(FirstOrder):
    """v = momentum v + g;  w = w - learning_rate v."""

    kind: ClassVar[str] = "sgd"
    vectors = ("velocity",)
    learning_rate: float
    momentum: float = 0.0

    def __post_init__(self) -> None:
        check_learning_rate(self.learning_rate)
        check_fraction("momentum", self.momentum)

    def update(self, w: Vector, g: Vector, vectors: Vectors, number: int, learning_rate: float) -> None:  # noqa: ARG002
        """One step on a piece."""
        v = vectors["velocity"]
        np.multiply(v, self.momentum, out=v)
        np.add(v, g, out=v)
        np.subtract(w, learning_rate * v, out=w)
