"""What an optimizer is: serial NumPy code on flat vectors that asks an objective for cost and derivatives.

It never communicates: objective and vectors give the same numbers on every rank, so all ranks decide alike. Of each
vector it writes only the parts that are owned here, as others write the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[Any]
Vectors = Sequence[Vector] | NDArray[Any]  # some of them, or an array whose rows they are

# Vectors are worked on piece by piece, so that all passes of an update find the piece in the cache.
CACHE_BLOCK = 65536

# The vector of a state that, if there is one, holds the weights to use in place of those that are stepped from.
AVERAGE = "average"


class Arriving(Protocol):
    """A gradient that is known to be finite before all of it is there; it comes from its end to its beginning."""

    def wait_for(self, part: slice) -> None:
        """Return when it is there in this part."""
        ...

    def complete(self) -> None:
        """Wait for all of it, if that is not done; before anything else is asked of objective or space."""
        ...


class Evaluated(Protocol):
    """A cost and its gradient."""

    @property
    def cost(self) -> float:
        """The weighted mean of the losses."""
        ...

    @property
    def gradient(self) -> Vector:
        """By the flat weights, where they are owned; valid until the objective is asked again."""
        ...

    @property
    def finite(self) -> bool:
        """Whether cost and gradient are numbers."""
        ...

    @property
    def arriving(self) -> Arriving | None:
        """What to wait for before the gradient is read, unless all of it is there."""
        ...


E = TypeVar("E", bound=Evaluated)
E_co = TypeVar("E_co", bound=Evaluated, covariant=True)


class Space(Protocol):
    """The vectors of all parameters: which parts are written here, and norms that are the same on every rank."""

    @property
    def owned(self) -> Sequence[slice]:
        """Return the parts of each vector that are to be written here; others write the rest."""
        ...

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shapes of the parameters, by name, in their order in a vector."""
        ...

    @property
    def changing(self) -> AbstractContextManager[None]:
        """Return a context in which weights and vectors are changed: outside of it they are those of a step's end."""
        ...

    def dot(self, a: Vector, b: Vector) -> float:
        """Return the inner product of two vectors."""
        ...

    def squares(self, vector: Vector) -> NDArray[Any]:
        """Return the sum of squares of each parameter's elements, in float64."""
        ...


class VectorSpace(Space, Protocol):
    """The same with products of many vectors, and with work that ranks divide."""

    def dots(self, left: Vectors, right: Vectors) -> NDArray[Any]:
        """Return the inner products of each vector on the left with each on the right, in float64, in one pass.

        It is fastest if both are the rows of an array.
        """
        ...

    def combine(self, coefficients: NDArray[Any], rows: NDArray[Any], target: Vector) -> None:
        """Write the linear combination of rows to a vector, which may be one of them if its coefficient is 0."""
        ...

    def fence(self, vector: Vector) -> None:
        """Return when the whole of a vector can be read, until somebody writes to it again."""
        ...

    def jobs(self, count: int) -> range:
        """Return which of `count` pieces of work, each of which goes into a vector, are to be done here."""
        ...

    def fence_jobs(self, vector: Vector, parts: Sequence[slice]) -> None:
        """Return when these parts of a vector can be read, each written by the rank with its job."""
        ...


class Root(Protocol):
    """The rank that computes for all, where a method cannot be divided among ranks, and its messages."""

    @property
    def is_root(self) -> bool:
        """Return True on the rank that computes for all."""
        ...

    def broadcast(self, value: Any) -> Any:
        """Return the root's value (any small object) on every rank."""
        ...

    def broadcast_vector(self, vector: Vector) -> None:
        """Write the root's copy of a whole vector to the copies of all ranks."""
        ...

    def gather_vector(self, vector: Vector) -> Vector:
        """Return a whole vector on the root; elsewhere what there is of it."""
        ...


class Curvature(Protocol):
    """The second derivatives of a cost at a point; what it gives is valid until it or the objective is asked again."""

    def hessian_product(self, vector: Vector) -> Vector:
        """The Hessian times a vector."""
        ...

    def gauss_newton_product(self, vector: Vector) -> Vector:
        """J^T H J times a vector: J of the outputs by the weights, H the Hessian of the cost by the outputs."""
        ...

    def gauss_newton_matrix(self) -> NDArray[Any]:
        """J^T H J as a whole, float64: for few weights. The same on every rank."""
        ...

    def squared_gradients(self, probes: int) -> Vector:
        """The weighted sum of the squares of the examples' own gradients, over the sum of weights.

        Args:
            probes: gradients with random signs, from which it is estimated (Hutchinson 1989).
        """
        ...


class Objective(Protocol[E_co]):
    """What an optimizer may ask: the cost as a function of the flat weights, and its derivatives."""

    @property
    def space(self) -> VectorSpace:
        """Return the space that the weights lie in."""
        ...

    @property
    def root(self) -> Root:
        """Return the rank that computes for all, for methods that need one."""
        ...

    @property
    def is_deterministic(self) -> bool:
        """Whether it is the same function as in the step before: all examples at once, and nothing random."""
        ...

    def value_and_gradient(self, weights: Vector, early: bool = False) -> E_co:
        """The cost at these weights, and its gradient.

        Args:
            early: whether it may be given while the gradient is still arriving.
        """
        ...

    def value(self, weights: Vector) -> float:
        """The cost at these weights."""
        ...

    def curvature(self, weights: Vector, part: float = 1.0) -> Curvature:
        """The second derivatives at these weights, which must not change while they are asked for.

        Args:
            part: of the mini-batch that is used.
        """
        ...


class Outcome(Enum):
    """How a step of a method ended; the values are for users to read."""

    GOES_ON = "goes on"
    CONVERGED = "converged"
    OUT_OF_EVALUATIONS = "out of evaluations"
    LINE_SEARCH_FAILED = "the line search failed"
    NEGATIVE_CURVATURE = "negative curvature"
    NOT_FINITE = "not finite"
    FAILED = "the method failed"


@dataclass(frozen=True)
class Step(Generic[E]):
    """What a step came to.

    Args:
        evaluation: of cost and gradient, from which the step's figures are taken.
        outcome: whether the method goes on, or why it cannot.
        evaluations: of cost, or of cost and gradient.
        products: with second derivatives.
        length: by what the direction was multiplied; the learning rate of methods that have one.
        reason: more about the outcome, for users.
    """

    evaluation: E
    outcome: Outcome = Outcome.GOES_ON
    evaluations: int = 1
    products: int = 0
    length: float = 0.0
    reason: str = ""

    @property
    def done(self) -> bool:
        """Return True if the weights were updated: False if cost or gradient is not finite."""
        return self.outcome is not Outcome.NOT_FINITE


class Running(Protocol):
    """What goes on from step to step beside the training."""

    def close(self) -> None:
        """End it; not collective."""
        ...


@dataclass
class State:
    """What a method remembers from step to step; a checkpoint holds its vectors and numbers.

    Args:
        vectors: by name, each as long as the weights.
        numbers: by name, a float64 array each.
        scratch: vectors whose contents are of no use after a step.
        rows: the vectors below each other, in the order of their names.
        derived: what was found from the settings and the space, and need not be found again; by name.
        running: what no checkpoint can hold, if there is any; made by the first step.
    """

    vectors: dict[str, Vector] = field(default_factory=dict)
    numbers: dict[str, NDArray[Any]] = field(default_factory=dict)
    scratch: dict[str, Vector] = field(default_factory=dict)
    rows: NDArray[Any] = field(default_factory=lambda: np.zeros((0, 0)))
    derived: dict[str, Any] = field(default_factory=dict)
    running: Running | None = None

    @classmethod
    def of(cls, method: Method, zeros: Callable[[int], NDArray[Any]]) -> State:
        """What a method begins with; zeros gives so many vectors, the rows of one array."""
        count = len(method.vectors)
        rows = zeros(count + len(method.scratch))
        vectors = dict(zip(method.vectors, rows[:count], strict=True))
        scratch = dict(zip(method.scratch, rows[count:], strict=True))
        return cls(vectors, method.numbers(), scratch, rows[:count])

    def trained(self, weights: Vector) -> Vector:
        """The weights to use: their average, if one is kept, in place of those that are stepped from."""
        return self.vectors.get(AVERAGE, weights)

    def close(self) -> None:
        """End what runs; not collective."""
        if self.running is not None:
            self.running.close()


class Method(ABC):
    """An optimizer: its settings; what changes is kept in a State."""

    kind: ClassVar[str]
    is_first_order: ClassVar[bool] = False  # takes one gradient a step and multiplies it by a learning rate
    length: ClassVar[str] = "step_length"  # what Step.length is called
    forgets: ClassVar[str] = ""  # what a resumed run has to do without, for users; nothing as a rule

    @property
    @abstractmethod
    def vectors(self) -> tuple[str, ...]:
        """The names of the vectors that it keeps."""

    @property
    def scratch(self) -> tuple[str, ...]:
        """The names of vectors that it needs besides, within a step."""
        return ()

    def numbers(self) -> dict[str, NDArray[Any]]:
        """The numbers that it keeps, as they are at first, by name; their shapes may change."""
        return {}

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:  # noqa: B027
        """UserError if the settings do not fit a model with parameters of these shapes, by name."""

    @abstractmethod
    def step(self, objective: Objective[E], weights: Vector, state: State, number: int, factor: float) -> Step[E]:
        """One step, in place; weights and vectors stay as they are if cost or gradient is not finite.

        All that it writes to weights and vectors it writes in one context of objective.space.changing.

        Args:
            objective: gives cost and derivatives.
            weights: the flat weights.
            state: what the method remembers.
            number: of the update, counted from 1: skipped steps do not count.
            factor: on the learning rate, from the schedule.
        """


def cache_blocks(parts: Sequence[slice], length: int = CACHE_BLOCK) -> Iterator[slice]:
    """Parts of a vector in pieces of this length, the last of each of which may be shorter."""
    for part in parts:
        for start in range(part.start, part.stop, length):
            yield slice(start, min(start + length, part.stop))


def copy(space: Space, source: Vector, target: Vector) -> None:
    """Write what is owned of one vector to another."""
    for block in cache_blocks(space.owned):
        target[block] = source[block]


def follow(space: Space, direction: Vector, length: float, start: Vector, target: Vector) -> None:
    """Write start + length direction to a vector, where it is owned."""
    for block in cache_blocks(space.owned):
        np.multiply(direction[block], length, out=target[block])
        np.add(start[block], target[block], out=target[block])
