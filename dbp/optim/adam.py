"""Adam (Kingma and Ba 2015, Algorithm 1), and AdamW (Loshchilov and Hutter 2019, Algorithm 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from dbp.checks import check_fraction, check_positive
from dbp.optim.first_order import FirstOrder, Work, decouple
from dbp.optim.method import Vector
from dbp.optim.pieces import Piece


@dataclass(frozen=True)
class Adam(FirstOrder):
    """Steps by the running mean of the gradient over the root of the running mean of its square.

    m = beta1 m + g;  v = beta2 v + g^2, which are those means over 1 - beta1 and 1 - beta2, kept so because it
    takes two passes less;  w = w - learning_rate m' / (sqrt(v') + epsilon),
    m' = m (1 - beta1) / (1 - beta1^t),  v' = v (1 - beta2) / (1 - beta2^t).
    """

    kind: ClassVar[str] = "adam"
    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction(beta1=self.beta1, beta2=self.beta2)
        check_positive(epsilon=self.epsilon)

    @property
    def vectors(self) -> tuple[str, ...]:
        """The names of the vectors that it keeps."""
        return ("gradients", "squares", *super().vectors)

    def update(self, p: Piece, work: Work) -> None:
        """One step on a piece."""
        self.remember(p)
        if p.rate == 0:  # at the end of a schedule
            return
        change = self.direction(p, work.number, p.rate, out=p.spare[0])
        np.subtract(p.w, change, out=p.w)

    def remember(self, p: Piece) -> None:
        """Take the gradient into m and v."""
        m, v, square = p.vectors["gradients"], p.vectors["squares"], p.spare[0]
        np.multiply(m, self.beta1, out=m)
        np.add(m, p.g, out=m)
        np.multiply(v, self.beta2, out=v)
        np.multiply(p.g, p.g, out=square)
        np.add(v, square, out=v)

    def direction(self, p: Piece, number: int, rate: float, out: Vector) -> Vector:
        """Rate m' / (sqrt(v') + epsilon)."""
        # Both corrections and the rate go into the divisor.
        scale = (1 - self.beta1**number) / ((1 - self.beta1) * rate)
        np.sqrt(p.vectors["squares"], out=out)
        np.multiply(out, scale * math.sqrt((1 - self.beta2) / (1 - self.beta2**number)), out=out)
        np.add(out, scale * self.epsilon, out=out)
        return np.divide(p.vectors["gradients"], out, out=out)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam, with w = w - learning_rate weight_decay w before each step, in place of decay in the gradient."""

    kind: ClassVar[str] = "adamw"
    weight_decay: float = field(default=1e-2, kw_only=True)

    def shrink(self, p: Piece) -> None:
        """Have weights decay apart from the gradient."""
        decouple(p)
