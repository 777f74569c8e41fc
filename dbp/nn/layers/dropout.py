"""Dropout of inputs at random, in training only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.autodiff import Value, array_of
from dbp.checks import check_fraction
from dbp.nn.scope import Scope


@dataclass(frozen=True)
class Dropout:
    """Dropout: in training, random inputs become zero and the others are scaled up (Srivastava et al. 2014).

    The choice depends on seed, step and shard alone, so it is the same on any number of ranks.

    Args:
        rate: the fraction of inputs that become zero.
    """

    kind: ClassVar[str] = "dropout"
    keeps_positions: ClassVar[bool] = True
    rate: float

    def __post_init__(self) -> None:
        check_fraction(rate=self.rate)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return outputs of the inputs' shape; outside of training the inputs themselves."""
        if not scope.training or self.rate == 0:
            return x
        shape, scale = np.shape(x), array_of(x).dtype.type(1 / (1 - self.rate))
        return x * scope.drawn(lambda random: (random.random(shape, np.float32) >= self.rate) * scale)
