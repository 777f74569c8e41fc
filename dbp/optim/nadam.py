"""NAdam: Adam with Nesterov's momentum (Dozat 2016, Algorithm 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dbp.checks import check_not_negative
from dbp.optim.adam import Adam
from dbp.optim.first_order import Work
from dbp.optim.pieces import Piece

PRODUCT = "momentum_product"


@dataclass(frozen=True)
class NAdam(Adam):
    """Steps by what Adam's mean of the gradient will be after the next step, if the gradient stays.

    mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2);  m and v as those of Adam, m' = m (1 - beta1), v' as there;
    w = w - learning_rate (mu_(t+1) m' / (1 - mu_1 ... mu_(t+1)) + (1 - mu_t) g / (1 - mu_1 ... mu_t))
    / (sqrt(v') + epsilon).
    """

    kind: ClassVar[str] = "nadam"
    learning_rate: float = 2e-3
    momentum_decay: float = 4e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative(momentum_decay=self.momentum_decay)

    def numbers(self) -> dict[str, NDArray[Any]]:
        """The product of all mu so far, besides what all methods keep."""
        return super().numbers() | {PRODUCT: np.ones(1)}

    def advance(self, work: Work) -> None:
        """Update weights and vectors."""
        work.state.numbers[PRODUCT] *= self._momentum(work.number)
        super().advance(work)

    def _momentum(self, number: int) -> float:
        return float(self.beta1 * (1 - 0.5 * 0.96 ** (number * self.momentum_decay)))

    def update(self, p: Piece, work: Work) -> None:
        """One step on a piece."""
        self.remember(p)
        now, after = self._momentum(work.number), self._momentum(work.number + 1)
        product, change, other = float(work.state.numbers[PRODUCT][0]), p.spare[0], p.spare[1]
        np.multiply(p.vectors["gradients"], p.rate * after * (1 - self.beta1) / (1 - product * after), out=change)
        np.multiply(p.g, p.rate * (1 - now) / (1 - product), out=other)
        np.add(change, other, out=change)
        np.sqrt(p.vectors["squares"], out=other)
        np.multiply(other, math.sqrt((1 - self.beta2) / (1 - self.beta2**work.number)), out=other)
        np.add(other, self.epsilon, out=other)
        np.divide(change, other, out=change)
        np.subtract(p.w, change, out=p.w)
