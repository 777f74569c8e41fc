"""Stochastic gradient descent with momentum (Polyak 1964; Nesterov 1983; Sutskever et al. 2013)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.checks import check_fraction
from dbp.errors import UserError
from dbp.optim.first_order import FirstOrder, Work
from dbp.optim.pieces import Piece


@dataclass(frozen=True)
class SGD(FirstOrder):
    """v = momentum v + g;  w = w - learning_rate v, or with nesterov w = w - learning_rate (g + momentum v)."""

    kind: ClassVar[str] = "sgd"
    learning_rate: float
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction(momentum=self.momentum)
        if self.nesterov and not self.momentum:
            raise UserError("nesterov needs momentum, but momentum is 0; set it, such as to 0.9")

    @property
    def vectors(self) -> tuple[str, ...]:
        """The names of the vectors that it keeps."""
        return (*(("velocity",) if self.momentum else ()), *super().vectors)

    def update(self, p: Piece, work: Work) -> None:  # noqa: ARG002
        """One step on a piece."""
        direction, change = p.g, p.spare[0]
        if self.momentum:
            direction = v = p.vectors["velocity"]
            np.multiply(v, self.momentum, out=v)
            np.add(v, p.g, out=v)
        if self.nesterov:
            np.multiply(v, self.momentum, out=change)
            direction = np.add(change, p.g, out=change)
        np.multiply(direction, p.rate, out=change)
        np.subtract(p.w, change, out=p.w)
