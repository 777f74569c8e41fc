"""Lion (Chen et al. 2023, Algorithm 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.checks import check_fraction
from dbp.optim.first_order import FirstOrder, UpdateContext, decoupled_weight_decay
from dbp.optim.parameter_blocks import Block


@dataclass(frozen=True)
class Lion(FirstOrder):
    """Steps along the sign of a mean of the gradient and its running mean (Chen et al. 2023, Algorithm 2).

    w = w - learning_rate (sign(beta1 m' + (1 - beta1) g) + weight_decay w)
    m' = beta2 m' + (1 - beta2) g

    The vector m = m' / (1 - beta2) is stored in place of the paper's m', which saves a pass; the sign is then that of
    beta1 (1 - beta2) / (1 - beta1) m + g.

    Args:
        beta1: the weight of the running mean in the direction.
        beta2: the decay rate of the running mean.
    """

    kind: ClassVar[str] = "lion"
    learning_rate: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction(beta1=self.beta1, beta2=self.beta2)

    @property
    def vectors(self) -> tuple[str, ...]:
        """Return the names of the vectors that a checkpoint holds."""
        return ("gradients", *super().vectors)

    def apply_weight_decay(self, block: Block) -> None:
        """Shrink the weights apart from the gradient."""
        decoupled_weight_decay(block)

    def update(self, block: Block, context: UpdateContext) -> None:  # noqa: ARG002
        """Update one block of weights and vectors."""
        m, change = block.vectors["gradients"], block.buffers[0]
        np.multiply(m, self.beta1 * (1 - self.beta2) / (1 - self.beta1), out=change)
        np.add(change, block.g, out=change)
        # sign(change) by two comparisons: np.sign is much slower, because it branches at each element.
        positive, negative, *_ = block.buffers[1].view(np.int8).reshape(-1, len(change))
        np.greater(change, 0, out=positive.view(np.bool_))
        np.less(change, 0, out=negative.view(np.bool_))
        np.subtract(positive, negative, out=change)
        np.multiply(change, block.learning_rate, out=change)
        np.subtract(block.w, change, out=block.w)
        np.multiply(m, self.beta2, out=m)
        np.add(m, block.g, out=m)
