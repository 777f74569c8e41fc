"""NAdam: Adam with Nesterov's momentum (Dozat 2016, Algorithm 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dbp.checks import check_not_negative
from dbp.optim.adam import Adam
from dbp.optim.first_order import UpdateContext
from dbp.optim.parameter_blocks import Block

PRODUCT = "momentum_product"


@dataclass(frozen=True)
class NAdam(Adam):
    """Steps along the mean of the gradient that Adam would have after one more step with the same gradient.

    The source is Dozat 2016, Algorithm 2.

    mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2)
    w = w - learning_rate (mu_(t+1) m' / (1 - mu_1 ... mu_(t+1)) + (1 - mu_t) g / (1 - mu_1 ... mu_t))
        / (sqrt(v') + epsilon)
    with Adam's m and v, m' = m (1 - beta1), and Adam's v'; t is the number of the update

    Args:
        momentum_decay: how fast mu_t rises to beta1; not negative.
    """

    kind: ClassVar[str] = "nadam"
    learning_rate: float = 2e-3
    momentum_decay: float = 4e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative(momentum_decay=self.momentum_decay)

    def numbers(self) -> dict[str, NDArray[Any]]:
        """Return the product of all mu_t before the first update."""
        return super().numbers() | {PRODUCT: np.ones(1)}

    def advance(self, context: UpdateContext) -> None:
        """Update weights and vectors, and the product of all mu_t."""
        context.state.numbers[PRODUCT] *= self._momentum(context.number)
        super().advance(context)

    def _momentum(self, number: int) -> float:
        """Return mu_t of the update of this number."""
        return float(self.beta1 * (1 - 0.5 * 0.96 ** (number * self.momentum_decay)))

    def update(self, block: Block, context: UpdateContext) -> None:
        """Update one block of weights and vectors."""
        self.update_moments(block)
        mu, next_mu = self._momentum(context.number), self._momentum(context.number + 1)
        product, change, other = float(context.state.numbers[PRODUCT][0]), block.buffers[0], block.buffers[1]
        np.multiply(
            block.vectors["gradients"],
            block.learning_rate * next_mu * (1 - self.beta1) / (1 - product * next_mu),
            out=change,
        )
        np.multiply(block.g, block.learning_rate * (1 - mu) / (1 - product), out=other)
        np.add(change, other, out=change)
        np.sqrt(block.vectors["squares"], out=other)
        np.multiply(other, math.sqrt((1 - self.beta2) / (1 - self.beta2**context.number)), out=other)
        np.add(other, self.epsilon, out=other)
        np.divide(change, other, out=change)
        np.subtract(block.w, change, out=block.w)
