"""Adagrad (Duchi, Hazan and Singer 2011)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.checks import check_positive
from dbp.optim.first_order import FirstOrder, UpdateContext
from dbp.optim.parameter_blocks import Block


@dataclass(frozen=True)
class Adagrad(FirstOrder):
    """Steps along the gradient over the root of the sum of all squared gradients (Duchi, Hazan and Singer 2011).

    s = s + g^2
    w = w - learning_rate g / (sqrt(s) + epsilon)

    Args:
        epsilon: added to the root, so that the division stays finite; positive.
    """

    kind: ClassVar[str] = "adagrad"
    learning_rate: float = 1e-2
    epsilon: float = 1e-10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(epsilon=self.epsilon)

    @property
    def vectors(self) -> tuple[str, ...]:
        """Return the names of the vectors that a checkpoint holds."""
        return ("squares", *super().vectors)

    def update(self, block: Block, context: UpdateContext) -> None:  # noqa: ARG002
        """Update one block of weights and vectors."""
        s, change = block.vectors["squares"], block.buffers[0]
        np.multiply(block.g, block.g, out=change)
        np.add(s, change, out=s)
        np.sqrt(s, out=change)
        np.add(change, self.epsilon, out=change)
        np.divide(block.g, change, out=change)
        np.multiply(change, block.learning_rate, out=change)
        np.subtract(block.w, change, out=block.w)
