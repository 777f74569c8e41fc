"""RMSprop (Tieleman and Hinton 2012, lecture 6.5)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.checks import check_fraction, check_positive
from dbp.optim.first_order import FirstOrder, Work
from dbp.optim.pieces import Piece


@dataclass(frozen=True)
class RMSprop(FirstOrder):
    """Steps by the gradient over the root of the running mean of its square, with momentum if asked for.

    s = alpha s + g^2, which is that mean over 1 - alpha, kept so because it takes a pass less;
    d = g / (sqrt((1 - alpha) s) + epsilon);  v = momentum v + d;  w = w - learning_rate v.
    """

    kind: ClassVar[str] = "rmsprop"
    learning_rate: float = 1e-2
    alpha: float = 0.99
    epsilon: float = 1e-8
    momentum: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction(alpha=self.alpha)
        check_positive(epsilon=self.epsilon)
        check_fraction(momentum=self.momentum)

    @property
    def vectors(self) -> tuple[str, ...]:
        """The names of the vectors that it keeps."""
        return ("squares", *(("velocity",) if self.momentum else ()), *super().vectors)

    def update(self, p: Piece, work: Work) -> None:  # noqa: ARG002
        """One step on a piece."""
        s, change = p.vectors["squares"], p.spare[0]
        np.multiply(s, self.alpha, out=s)
        np.multiply(p.g, p.g, out=change)
        np.add(s, change, out=s)
        np.sqrt(s, out=change)
        np.multiply(change, math.sqrt(1 - self.alpha), out=change)
        np.add(change, self.epsilon, out=change)
        direction = np.divide(p.g, change, out=change)
        if self.momentum:
            direction = v = p.vectors["velocity"]
            np.multiply(v, self.momentum, out=v)
            np.add(v, change, out=v)
        np.multiply(direction, p.rate, out=change)
        np.subtract(p.w, change, out=p.w)
