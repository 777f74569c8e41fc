"""Lion (Chen et al. 2023, Algorithm 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.checks import check_fraction
from dbp.optim.first_order import FirstOrder, Work, decouple
from dbp.optim.pieces import Piece


@dataclass(frozen=True)
class Lion(FirstOrder):
    """Steps by the sign of a mean of the gradient and its running mean.

    w = w - learning_rate (sign(beta1 m' + (1 - beta1) g) + weight_decay w);  m' = beta2 m' + (1 - beta2) g,
    of which m = m' / (1 - beta2) is kept, as it takes a pass less: the sign is that of beta1 (1 - beta2) /
    (1 - beta1) m + g.
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
        """The names of the vectors that it keeps."""
        return ("gradients", *super().vectors)

    def shrink(self, p: Piece) -> None:
        """Have weights decay apart from the gradient."""
        decouple(p)

    def update(self, p: Piece, work: Work) -> None:  # noqa: ARG002
        """One step on a piece."""
        m, change = p.vectors["gradients"], p.spare[0]
        np.multiply(m, self.beta1 * (1 - self.beta2) / (1 - self.beta1), out=change)
        np.add(change, p.g, out=change)
        # Its sign, which np.sign finds much slower, as it branches at each number.
        above, below, *_ = p.spare[1].view(np.int8).reshape(-1, len(change))
        np.greater(change, 0, out=above.view(np.bool_))
        np.less(change, 0, out=below.view(np.bool_))
        np.subtract(above, below, out=change)
        np.multiply(change, p.rate, out=change)
        np.subtract(p.w, change, out=p.w)
        np.multiply(m, self.beta2, out=m)
        np.add(m, p.g, out=m)
