"""LAMB: Adam with a trust ratio for each parameter (You et al. 2020, Algorithm 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.optim.adam import Adam
from dbp.optim.first_order import Work
from dbp.optim.pieces import Piece, Setting, Shapes
from dbp.optim.trust_ratio import one_group_each, trust_ratios


@dataclass(frozen=True)
class LAMB(Adam):
    """Adam with a trust ratio ||w|| / ||r|| for each parameter, and no limits on ||w||.

    r = m' / (sqrt(v') + epsilon) + weight_decay w, with Adam's m' and v'
    w = w - learning_rate ||w|| / ||r|| r

    The trust ratio is 1 where a norm is zero.
    """

    kind: ClassVar[str] = "lamb"
    epsilon: float = 1e-6

    @property
    def scratch(self) -> tuple[str, ...]:
        """Name the direction r, kept until all of its norms are known."""
        return ("direction",)

    def settings(self, shapes: Shapes) -> list[Setting]:
        """Return the settings of each parameter, which is a group of its own."""
        return one_group_each(super().settings(shapes))

    def shrink(self, p: Piece) -> None:
        """Do nothing: update() adds weight decay to the direction."""

    def advance(self, work: Work) -> None:
        """Find the whole direction, then all trust ratios, then step."""
        for p in self.pieces(work):
            self.prepare(p, work)
            self.update(p, work)
        space, direction = work.space, work.state.scratch["direction"]
        ratios = trust_ratios(np.sqrt(space.squares(work.weights)), np.sqrt(space.squares(direction)))
        for p in self.pieces(work):
            np.multiply(p.vectors["direction"], p.rate * ratios[p.group], out=p.spare[0])
            np.subtract(p.w, p.spare[0], out=p.w)
            self.finish(p, work)

    def update(self, p: Piece, work: Work) -> None:
        """Write one block of the direction r."""
        self.remember(p)
        r = self.direction(p, work.number, 1.0, out=p.vectors["direction"])
        if p.decay:
            np.multiply(p.w, p.decay, out=p.spare[0])
            np.add(r, p.spare[0], out=r)
