"""What an optimizer is: serial NumPy code on flat vectors that asks an objective for cost and gradient.

It never communicates: the objective gives the same numbers on every rank, so all ranks decide alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

from numpy.typing import NDArray

from dbp.errors import UserError

Vector = NDArray[Any]
State = Mapping[str, Vector]

# Vectors are updated piece by piece, so that all passes of an update find the piece in the cache.
BLOCK = 32768


class Evaluated(Protocol):
    """A cost and its gradient."""

    @property
    def gradient(self) -> Vector:
        """By the flat weights."""
        ...

    @property
    def finite(self) -> bool:
        """Whether cost and gradient are numbers."""
        ...

    @property
    def owned(self) -> Sequence[slice]:
        """The parts of the weights and of the state that are to be updated here; others may update the rest."""
        ...


E = TypeVar("E", bound=Evaluated, covariant=True)


class Differentiable(Protocol[E]):
    """What an optimizer may ask."""

    def value_and_gradient(self, weights: Vector) -> E:
        """The cost at these weights, and its gradient."""
        ...


class FirstOrder(ABC):
    """A method that needs one gradient a step and treats every weight alike."""

    kind: ClassVar[str]
    vectors: ClassVar[tuple[str, ...]]
    learning_rate: float

    def initial_state(self, zeros: Callable[[], Vector]) -> dict[str, Vector]:
        """The method's vectors, by name, each as long as the weights.

        Args:
            zeros: gives a vector of that length.
        """
        return {name: zeros() for name in self.vectors}

    def step(self, objective: Differentiable[E], weights: Vector, state: State, number: int, factor: float) -> E:
        """One step, in place; weights and state stay as they are if cost or gradient is not finite.

        Args:
            objective: gives cost and gradient.
            weights: the flat weights.
            state: the method's vectors.
            number: of the step, counted from 1.
            factor: on the learning rate, from the schedule.
        """
        evaluation = objective.value_and_gradient(weights)
        if evaluation.finite:
            gradient, rate = evaluation.gradient, self.learning_rate * factor
            for piece in _pieces(evaluation.owned):
                vectors = {name: vector[piece] for name, vector in state.items()}
                self.update(weights[piece], gradient[piece], vectors, number, rate)
        return evaluation

    @abstractmethod
    def update(self, w: Vector, g: Vector, state: State, number: int, learning_rate: float) -> None:
        """Update a piece of the weights and of the method's vectors in place."""


def _pieces(parts: Sequence[slice]) -> list[slice]:
    starts = [(start, part.stop) for part in parts for start in range(part.start, part.stop, BLOCK)]
    return [slice(start, min(start + BLOCK, stop)) for start, stop in starts]


def check_learning_rate(learning_rate: float) -> None:
    """UserError unless it is a positive number."""
    if not 0 < learning_rate < float("inf"):
        raise UserError(f"learning_rate must be a positive number, but is {learning_rate}")


def check_fraction(name: str, value: float) -> None:
    """UserError unless the value is at least 0 and below 1."""
    if not 0 <= value < 1:
        raise UserError(f"{name} must be at least 0 and below 1, but is {value}")
