"""RMSprop (Tieleman and Hinton 2012, lecture 6.5)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.checks import check_fraction, check_positive
from dbp.optim.first_order import FirstOrder, UpdateContext
from dbp.optim.parameter_blocks import Block


@dataclass(frozen=True)
class RMSprop(FirstOrder):
    """Steps along the gradient over the root of the running mean of its square, optionally with momentum.

    The source is Tieleman and Hinton 2012, lecture 6.5.

    s = alpha s + g^2
    d = g / (sqrt((1 - alpha) s) + epsilon)
    v = momentum v + d
    w = w - learning_rate v

    Here s is the running mean over 1 - alpha, which saves a pass.

    Args:
        alpha: the decay rate of the mean of squares.
        epsilon: added to the root, so that the division stays finite; positive.
        momentum: at least 0 and below 1; 0 for none.
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
        """Return the names of the vectors that a checkpoint holds."""
        return ("squares", *(("velocity",) if self.momentum else ()), *super().vectors)

    def update(self, block: Block, context: UpdateContext) -> None:  # noqa: ARG002
        """Update one block of weights and vectors."""
        s, change = block.vectors["squares"], block.buffers[0]
        np.multiply(s, self.alpha, out=s)
        np.multiply(block.g, block.g, out=change)
        np.add(s, change, out=s)
        np.sqrt(s, out=change)
        np.multiply(change, math.sqrt(1 - self.alpha), out=change)
        np.add(change, self.epsilon, out=change)
        direction = np.divide(block.g, change, out=change)
        if self.momentum:
            direction = v = block.vectors["velocity"]
            np.multiply(v, self.momentum, out=v)
            np.add(v, change, out=v)
        np.multiply(direction, block.learning_rate, out=change)
        np.subtract(block.w, change, out=block.w)
