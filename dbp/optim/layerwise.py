"""Methods for large mini-batches, whose steps are in proportion to the weights of each parameter: LARS and LAMB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.optim.adam import Adam
from dbp.optim.first_order import FirstOrder, Work, check_fraction, check_positive
from dbp.optim.method import Vector
from dbp.optim.pieces import Piece, Setting, Shapes


def by_parameter(settings: list[Setting]) -> list[Setting]:
    """The settings, with a group for each parameter."""
    return [setting._replace(group=number) for number, setting in enumerate(settings)]


def ratios(over: Vector, under: Vector) -> list[float]:
    """The quotient of two numbers for each parameter; 1 where one of them is zero and tells nothing."""
    known = (over > 0) & (under > 0)
    found: list[float] = np.divide(over, under, out=np.ones_like(over), where=known).tolist()
    return found


@dataclass(frozen=True)
class LARS(FirstOrder):
    """Momentum, with a learning rate for each parameter (You, Gitman and Ginsburg 2017, Algorithm 1).

    r = trust ||w|| / (||g|| + weight_decay ||w||);  v = momentum v + learning_rate r (g + weight_decay w);  w = w - v.
    As is usual r is 1 for parameters with one axis, which are biases and the like, and where a norm is zero.
    """

    kind: ClassVar[str] = "lars"
    whole: ClassVar[bool] = True
    learning_rate: float
    momentum: float = 0.9
    trust: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction("momentum", self.momentum)
        check_positive("trust", self.trust)

    @property
    def vectors(self) -> tuple[str, ...]:
        """The names of the vectors that it keeps."""
        return ("velocity", *super().vectors)

    @property
    def scratch(self) -> tuple[str, ...]:
        """The clipped gradient, whose norms count."""
        return ("clipped",) if self.clip_norm or self.clip_value else ()

    def settings(self, shapes: Shapes) -> list[Setting]:
        """What is settled for each parameter, which has a group of its own."""
        return by_parameter(super().settings(shapes))

    def shrink(self, p: Piece) -> None:
        """Leave decay to the update."""

    def advance(self, work: Work) -> None:
        """Update weights and vectors."""
        gradient = work.state.scratch.get("clipped", work.gradient)
        if gradient is not work.gradient:
            for p in self.pieces(work):
                self.prepare(p, work)
                p.vectors["clipped"][:] = p.g
        trusted = self._trusted(work, gradient)
        for p in self.pieces(work._replace(gradient=gradient)):
            p.rate *= trusted[p.group]
            self.update(p, work)
            self.finish(p, work)

    def _trusted(self, work: Work, gradient: Vector) -> list[float]:
        """The factor r of each parameter."""
        space = work.space
        of_weights, of_gradient = np.sqrt(space.squares(work.weights)), np.sqrt(space.squares(gradient))
        decay = np.array([setting.decay for setting in self.plan(work).settings])
        usual = np.array([len(shape) < 2 for shape in space.shapes.values()], bool) | (of_gradient == 0)
        over = np.where(usual, 0.0, self.trust * of_weights)
        return ratios(over, of_gradient + decay * of_weights)

    def update(self, p: Piece, work: Work) -> None:  # noqa: ARG002
        """One step on a piece, whose rate is that of its parameter."""
        v, change = p.vectors["velocity"], p.spare[0]
        np.multiply(v, self.momentum, out=v)
        if p.decay:
            np.multiply(p.w, p.rate * p.decay, out=change)
            np.add(v, change, out=v)
        np.multiply(p.g, p.rate, out=change)
        np.add(v, change, out=v)
        np.subtract(p.w, v, out=p.w)


@dataclass(frozen=True)
class LAMB(Adam):
    """Adam, with a learning rate for each parameter (You et al. 2020, Algorithm 2, without limits on ||w||).

    r = m' / (sqrt(v') + epsilon) + weight_decay w, with m' and v' of Adam;  w = w - learning_rate ||w|| / ||r|| r.
    Where a norm is zero, the quotient is taken to be 1.
    """

    kind: ClassVar[str] = "lamb"
    epsilon: float = 1e-6

    @property
    def scratch(self) -> tuple[str, ...]:
        """The direction, whose norms are needed before it is gone."""
        return ("direction",)

    def settings(self, shapes: Shapes) -> list[Setting]:
        """What is settled for each parameter, which has a group of its own."""
        return by_parameter(super().settings(shapes))

    def shrink(self, p: Piece) -> None:
        """Leave decay to the direction."""

    def advance(self, work: Work) -> None:
        """Update weights and vectors."""
        for p in self.pieces(work):
            self.prepare(p, work)
            self.update(p, work)
        space, direction = work.space, work.state.scratch["direction"]
        trusted = ratios(np.sqrt(space.squares(work.weights)), np.sqrt(space.squares(direction)))
        for p in self.pieces(work):
            np.multiply(p.vectors["direction"], p.rate * trusted[p.group], out=p.spare[0])
            np.subtract(p.w, p.spare[0], out=p.w)
            self.finish(p, work)

    def update(self, p: Piece, work: Work) -> None:
        """Find a piece of the direction."""
        self.remember(p)
        r = self.direction(p, work.number, 1.0, out=p.vectors["direction"])
        if p.decay:
            np.multiply(p.w, p.decay, out=p.spare[0])
            np.add(r, p.spare[0], out=r)
