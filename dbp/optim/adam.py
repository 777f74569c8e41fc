"""Adam (Kingma and Ba 2015, Algorithm 1), and AdamW (Loshchilov and Hutter 2019, Algorithm 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from dbp.checks import check_fraction, check_positive
from dbp.optim.first_order import FirstOrder, UpdateContext, decoupled_weight_decay
from dbp.optim.parameter_blocks import Block
from dbp.optim.protocols import Vector


@dataclass(frozen=True)
class Adam(FirstOrder):
    """Steps along the running mean of the gradient over the root of the running mean of its square.

    The source is Kingma and Ba 2015, Algorithm 1.

    m = beta1 m + g
    v = beta2 v + g^2
    w = w - learning_rate m' / (sqrt(v') + epsilon)
    with m' = m (1 - beta1) / (1 - beta1^t) and v' = v (1 - beta2) / (1 - beta2^t), t the number of the update

    Here m is the paper's m_t / (1 - beta1) and v its v_t / (1 - beta2), which saves two passes; m' and v' are the
    paper's bias-corrected estimates.

    Args:
        beta1: the decay rate of the mean of the gradient.
        beta2: the decay rate of the mean of its square.
        epsilon: added to the root, so that the division stays finite; positive.
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
        """Return the names of the vectors that a checkpoint holds."""
        return ("gradients", "squares", *super().vectors)

    def update(self, block: Block, context: UpdateContext) -> None:
        """Update one block of weights and vectors."""
        self.update_moments(block)
        if block.learning_rate == 0:  # at the end of a schedule
            return
        change = self.direction(block, context.number, block.learning_rate, out=block.buffers[0])
        np.subtract(block.w, change, out=block.w)

    def update_moments(self, block: Block) -> None:
        """Update m and v by the gradient."""
        m, v, square = block.vectors["gradients"], block.vectors["squares"], block.buffers[0]
        np.multiply(m, self.beta1, out=m)
        np.add(m, block.g, out=m)
        np.multiply(v, self.beta2, out=v)
        np.multiply(block.g, block.g, out=square)
        np.add(v, square, out=v)

    def direction(self, block: Block, number: int, rate: float, out: Vector) -> Vector:
        """Write rate m' / (sqrt(v') + epsilon) to `out`, for the update of this number."""
        # One division: the bias corrections and the rate are factors of the divisor.
        scale = (1 - self.beta1**number) / ((1 - self.beta1) * rate)
        np.sqrt(block.vectors["squares"], out=out)
        np.multiply(out, scale * math.sqrt((1 - self.beta2) / (1 - self.beta2**number)), out=out)
        np.add(out, scale * self.epsilon, out=out)
        return np.divide(block.vectors["gradients"], out, out=out)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, Algorithm 2).

    Before each update w = w - learning_rate weight_decay w.
    """

    kind: ClassVar[str] = "adamw"
    weight_decay: float = field(default=1e-2, kw_only=True)

    def apply_weight_decay(self, block: Block) -> None:
        """Shrink the weights apart from the gradient."""
        decoupled_weight_decay(block)
