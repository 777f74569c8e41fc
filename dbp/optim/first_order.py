"""Methods that need one gradient a step, and what they have in common: decay, clipping, averages."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np

from dbp.checks import check_fraction, check_not_negative, check_positive
from dbp.optim.method import AVERAGE, Arriving, E, Method, Objective, Outcome, Space, State, Step, Vector
from dbp.optim.pieces import Part, Piece, Setting, Shapes, check_patterns, matches, parts_of


class Work(NamedTuple):
    """What there is to do in a step.

    Args:
        space: that the vectors lie in.
        weights: the flat weights.
        gradient: where it is owned.
        state: what the method remembers.
        number: of the update, counted from 1.
        rate: the learning rate.
        scale: factor on the gradient.
        arriving: what to wait for before a part of the gradient is read, unless all of it is there.
    """

    space: Space
    weights: Vector
    gradient: Vector
    state: State
    number: int
    rate: float
    scale: float
    arriving: Arriving | None = None


class Plan(NamedTuple):
    """What is the same at every step.

    Args:
        weights: in which the pieces lie.
        settings: of each parameter.
        pieces: of what is owned, from the end on, as gradients arrive; each with a factor on the learning rate.
    """

    weights: Vector
    settings: list[Setting]
    pieces: list[tuple[Piece, float]]


@dataclass(frozen=True, kw_only=True)
class FirstOrder(Method):
    """A method that needs one gradient a step.

    Args:
        learning_rate: by which directions are multiplied.
        weight_decay: how strongly weights are drawn to zero.
        decay: patterns of the names of parameters that are; by default those with two or more axes.
        layer_rates: factors on the learning rate by patterns of names; those of all that match are multiplied.
        clip_norm: a gradient with a larger norm is scaled down to it; 0 for none.
        clip_value: what each number of the gradient is then limited to; 0 for none.
        average: decay of an exponential moving average of the weights, which is then used for them; 0 for none.
    """

    is_first_order = True
    length = "learning_rate"
    whole: ClassVar[bool] = False  # whether more is asked of the gradient than its pieces
    learning_rate: float
    weight_decay: float = 0.0
    decay: tuple[str, ...] = ()
    layer_rates: Mapping[str, float] = field(default_factory=dict)
    clip_norm: float = 0.0
    clip_value: float = 0.0
    average: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "decay", tuple(self.decay))
        check_positive(learning_rate=self.learning_rate)
        check_fraction(average=self.average)
        check_not_negative(weight_decay=self.weight_decay, clip_norm=self.clip_norm, clip_value=self.clip_value)
        check_not_negative(**{f"the factor of layer_rates for {name!r}": x for name, x in self.layer_rates.items()})

    def check(self, shapes: Shapes) -> None:
        """UserError if a pattern is that of no parameter."""
        check_patterns("decay", self.decay, shapes)
        check_patterns("layer_rates", self.layer_rates, shapes)

    @property
    def vectors(self) -> tuple[str, ...]:
        """The names of the vectors that it keeps."""
        return (AVERAGE,) if self.average else ()

    def step(self, objective: Objective[E], weights: Vector, state: State, number: int, factor: float) -> Step[E]:
        """One gradient and one update; see Method.step()."""
        early = not (self.whole or self.clip_norm)
        evaluation, rate = objective.value_and_gradient(weights, early), self.learning_rate * factor
        if not evaluation.finite:
            return Step(evaluation, Outcome.NOT_FINITE, length=rate)
        space, gradient, arriving = objective.space, evaluation.gradient, evaluation.arriving
        scale = self._scale(space, gradient) if self.clip_norm else 1.0
        with space.changing:
            self.advance(Work(space, weights, gradient, state, number, rate, scale, arriving))
        return Step(evaluation, length=rate)

    def _scale(self, space: Space, gradient: Vector) -> float:
        """What brings the gradient's norm down to clip_norm; the small number is that of PyTorch."""
        square = space.dot(gradient, gradient)
        if not math.isfinite(square):  # beyond what float32 can hold
            square = float(space.squares(gradient).sum())
        return min(1.0, self.clip_norm / (math.sqrt(square) + 1e-6))

    def advance(self, work: Work) -> None:
        """Update weights and vectors.

        Unless the method says that it needs the whole gradient, it is asked to go through all pieces before it asks
        the space for what ranks find together: until then some may still wait for what this one has to send.
        """
        for piece in self.pieces(work):
            self.prepare(piece, work)
            self.update(piece, work)
            self.finish(piece, work)

    @abstractmethod
    def update(self, p: Piece, work: Work) -> None:
        """Update a piece of the weights and of the method's vectors in place."""

    def settings(self, shapes: Shapes) -> list[Setting]:
        """What is settled for each parameter."""
        return [Setting(self._factor(name), self._decay(name, shape)) for name, shape in shapes.items()]

    def _factor(self, name: str) -> float:
        return math.prod(factor for pattern, factor in self.layer_rates.items() if matches([pattern], name))

    def _decay(self, name: str, shape: tuple[int, ...]) -> float:
        chosen = matches(self.decay, name) if self.decay else len(shape) > 1
        return self.weight_decay if chosen else 0.0

    # --- pieces -----------------------------------------------------------------------------------------

    def pieces(self, work: Work) -> Iterator[Piece]:
        """What is owned, piece by piece, each as soon as its gradient is there."""
        gradient, rate, arriving = work.gradient, work.rate, work.arriving
        for piece, factor in self.plan(work).pieces:
            if arriving is not None:
                arriving.wait_for(piece.where)
            piece.g, piece.rate = gradient[piece.where], rate * factor
            yield piece
        if arriving is not None:
            arriving.complete()

    def plan(self, work: Work) -> Plan:
        """What is the same at every step, found at the first: it takes as long as short updates do."""
        plan: Plan | None = work.state.derived.get("plan")
        if plan is None or plan.weights is not work.weights:
            shapes = work.space.shapes
            settings = self.settings(shapes)
            pieces = self._pieces(work, parts_of(work.space.owned, shapes, settings))
            plan = work.state.derived["plan"] = Plan(work.weights, settings, pieces)
        return plan

    def _pieces(self, work: Work, parts: list[Part]) -> list[tuple[Piece, float]]:
        vectors, found = work.state.vectors | work.state.scratch, []
        longest = max((part.where.stop - part.where.start for part in parts), default=0)
        spare = np.empty((3, longest), work.weights.dtype)
        for where, (factor, decay, group) in sorted(parts, key=lambda part: -part.where.start):
            own = {name: vector[where] for name, vector in vectors.items()}
            w = work.weights[where]
            rows = [row[: len(w)] for row in spare]
            found.append((Piece(w, work.gradient[where], own, rows, work.rate, decay, group, where), factor))
        return found

    def prepare(self, p: Piece, work: Work) -> None:
        """Clip the gradient, and have weights decay."""
        own = p.spare[2]
        if work.scale != 1:
            p.g = np.multiply(p.g, work.scale, out=own)
        if self.clip_value:
            p.g = np.clip(p.g, -self.clip_value, self.clip_value, out=own)
        if p.decay:
            self.shrink(p)

    def shrink(self, p: Piece) -> None:
        """Have weights decay: g = g + decay w, the gradient with that of the penalty decay/2 ||w||^2."""
        np.multiply(p.w, p.decay, out=p.spare[0])
        p.g = np.add(p.g, p.spare[0], out=p.spare[2])

    def finish(self, p: Piece, work: Work) -> None:
        """Take new weights into their average, which begins with the first."""
        if self.average:
            mean, change = p.vectors[AVERAGE], p.spare[0]
            if work.number == 1:
                mean[:] = p.w
                return
            np.subtract(p.w, mean, out=change)
            np.multiply(change, 1 - self.average, out=change)
            np.add(mean, change, out=mean)


def decouple(p: Piece) -> None:
    """Have weights decay apart from the gradient: w = w - learning_rate decay w (Loshchilov and Hutter 2019)."""
    np.multiply(p.w, 1 - p.rate * p.decay, out=p.w)
