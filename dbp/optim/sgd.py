"""Stochastic gradient descent with momentum (Polyak 1964; Nesterov 1983; Sutskever et al. 2013)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.checks import check_fraction
from dbp.errors import UserError
from dbp.optim.first_order import FirstOrder, UpdateContext
from dbp.optim.parameter_blocks import Block


@dataclass(frozen=True)
class SGD(FirstOrder):
    """Steps along the gradient, or along a velocity that sums past gradients.

    Sources are Polyak 1964, Nesterov 1983 and Sutskever et al. 2013.

    v = momentum v + g
    w = w - learning_rate v, or with nesterov w = w - learning_rate (g + momentum v)

    Args:
        momentum: at least 0 and below 1; 0 for plain gradient descent.
        nesterov: whether to step along g + momentum v; needs momentum.
    """

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
        """Return the names of the vectors that a checkpoint holds."""
        return (*(("velocity",) if self.momentum else ()), *super().vectors)

    def update(self, block: Block, context: UpdateContext) -> None:  # noqa: ARG002
        """Update one block of weights and vectors."""
        direction, change = block.g, block.buffers[0]
        if self.momentum:
            direction = v = block.vectors["velocity"]
            np.multiply(v, self.momentum, out=v)
            np.add(v, block.g, out=v)
        if self.nesterov:
            np.multiply(v, self.momentum, out=change)
            direction = np.add(change, block.g, out=change)
        np.multiply(direction, block.learning_rate, out=change)
        np.subtract(block.w, change, out=block.w)
