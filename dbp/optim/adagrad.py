"""Adagrad (Duchi, Hazan and Singer 2011)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.checks import check_positive
from dbp.optim.first_order import FirstOrder, Work
from dbp.optim.pieces import Piece


@dataclass(frozen=True)
class Adagrad(FirstOrder):
    """Steps by the gradient over the root of the sum of all squares so far.

    s = s + g^2;  w = w - learning_rate g / (sqrt(s) + epsilon).
    """

    kind: ClassVar[str] = "adagrad"
    learning_rate: float = 1e-2
    epsilon: float = 1e-10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(epsilon=self.epsilon)

    @property
    def vectors(self) -> tuple[str, ...]:
        """The names of the vectors that it keeps."""
        return ("squares", *super().vectors)

    def update(self, p: Piece, work: Work) -> None:  # noqa: ARG002
        """One step on a piece."""
        s, change = p.vectors["squares"], p.spare[0]
        np.multiply(p.g, p.g, out=change)
        np.add(s, change, out=s)
        np.sqrt(s, out=change)
        np.add(change, self.epsilon, out=change)
        np.divide(p.g, change, out=change)
        np.multiply(change, p.rate, out=change)
        np.subtract(p.w, change, out=p.w)
