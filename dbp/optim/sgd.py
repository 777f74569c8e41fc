"""Stochastic gradient descent with momentum (Polyak 1964; Sutskever et al. 2013)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.optim.optimizer import FirstOrder, State, Vector, check_fraction, check_learning_rate


@dataclass(frozen=True)
class SGD(FirstOrder):
    """v = momentum v + g;  w = w - learning_rate v."""

    kind: ClassVar[str] = "sgd"
    vectors: ClassVar[tuple[str, ...]] = ("velocity",)
    learning_rate: float
    momentum: float = 0.0

    def __post_init__(self) -> None:
        check_learning_rate(self.learning_rate)
        check_fraction("momentum", self.momentum)

    def update(self, w: Vector, g: Vector, state: State, number: int, learning_rate: float) -> None:  # noqa: ARG002
        """One step on a piece."""
        v = state["velocity"]
        np.multiply(v, self.momentum, out=v)
        np.add(v, g, out=v)
        np.subtract(w, learning_rate * v, out=w)
