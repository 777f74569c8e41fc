"""The interface of an optimizer: its settings, its state, its step and the step's outcome.

Every rank takes the same decisions and writes only the ranges of the vectors that it owns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, Generic, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dbp.errors import UserError
from dbp.optim.protocols import E, MiniBatchCost, Vector

AVERAGE = "average"  # the vector of a state that holds the average of the weights, if there is one


class Outcome(Enum):
    """The outcome of a step; its value is shown to users."""

    CONTINUES = "continues"
    CONVERGED = "converged"
    OUT_OF_EVALUATIONS = "out of evaluations"
    LINE_SEARCH_FAILED = "the line search failed"
    NEGATIVE_CURVATURE = "negative curvature"
    NOT_FINITE = "not finite"
    FAILED = "the method failed"
    INFLUENCE_LOST = "influence lost"


class Step(NamedTuple, Generic[E]):
    """The result of a step.

    Args:
        evaluation: the cost and gradient to report for the step.
        outcome: whether the optimizer can continue, or why not.
        evaluations: the number of evaluations of the cost, with or without its gradient.
        products: the number of products with second derivatives.
        length: of the step, as the optimizer's length_name says.
        reason: the reason for the outcome, shown to users.
    """

    evaluation: E
    outcome: Outcome = Outcome.CONTINUES
    evaluations: int = 1
    products: int = 0
    length: float = 0.0
    reason: str = ""

    @property
    def done(self) -> bool:
        """Return True if the weights were updated: False if cost or gradient is not finite."""
        return self.outcome is not Outcome.NOT_FINITE


class Running(Protocol):
    """Something that runs from step to step beside the training, such as a thread."""

    def close(self) -> None:
        """End it; not collective."""
        ...


@dataclass
class State:
    """The state of an optimizer; a checkpoint holds its vectors and numbers.

    Args:
        vectors: by name, each as long as the flat weights.
        numbers: by name, small arrays.
        scratch: by name, vectors whose contents are not used after a step.
        rows: all vectors as the rows of one array, in the order of `vectors`.
        derived: by name, a cache of what follows from the settings and the space.
        running: what cannot be saved, if there is any; created by the first step.
    """

    vectors: dict[str, Vector] = field(default_factory=dict)
    numbers: dict[str, NDArray[Any]] = field(default_factory=dict)
    scratch: dict[str, Vector] = field(default_factory=dict)
    rows: NDArray[Any] = field(default_factory=lambda: np.zeros((0, 0)))
    derived: dict[str, Any] = field(default_factory=dict)
    running: Running | None = None

    @classmethod
    def of(cls, optimizer: Optimizer, zeros: Callable[[int], NDArray[Any]]) -> State:
        """Return the initial state of an optimizer.

        Args:
            optimizer: the settings.
            zeros: returns an array of zeros, with as many rows as asked for, each as long as the flat weights.
        """
        count = len(optimizer.vectors)
        rows = zeros(count + len(optimizer.scratch))
        vectors = dict(zip(optimizer.vectors, rows[:count], strict=True))
        scratch = dict(zip(optimizer.scratch, rows[count:], strict=True))
        return cls(vectors, optimizer.numbers(), scratch, rows[:count])

    def inference_weights(self, weights: Vector) -> Vector:
        """Return the weights to evaluate and predict with: their average, if there is one."""
        return self.vectors.get(AVERAGE, weights)

    def close(self) -> None:
        """End what is running; not collective."""
        if self.running is not None:
            self.running.close()


class Optimizer(ABC):
    """The settings of an optimizer, and its step; all that changes is in a State."""

    kind: ClassVar[str]  # the config's optimizer.kind
    is_first_order: ClassVar[bool] = False  # True if a step is one gradient and has a learning rate
    is_elementwise: ClassVar[bool] = False  # True if an update of one element does not depend on others
    length_name: ClassVar[str] = "step_length"  # what Step.length is; a column of the history
    resume_note: ClassVar[str] = ""  # shown when a run resumes without a part of the optimizer's state

    @property
    @abstractmethod
    def vectors(self) -> tuple[str, ...]:
        """Return the names of the vectors that a checkpoint holds."""

    @property
    def scratch(self) -> tuple[str, ...]:
        """Return the names of further vectors, which are needed only within a step."""
        return ()

    def numbers(self) -> dict[str, NDArray[Any]]:
        """Return the initial numbers that a checkpoint holds, by name; their shapes may change from step to step."""
        return {}

    def check(self, shapes: Mapping[str, tuple[int, ...]], sparse: Collection[str] = ()) -> None:  # noqa: ARG002
        """Raise UserError if the settings do not fit a model.

        Args:
            shapes: of its parameters, by name.
            sparse: those of them of which a step changes some rows alone.
        """
        if sparse:
            raise UserError(
                f"{next(iter(sparse))!r} is sparse, but optimizer {self.kind!r} needs the gradient by all of a "
                "parameter; take one that updates element by element, such as adam, adagrad or sgd, or leave sparse out"
            )

    def average_share(self, number: int) -> float:  # noqa: ARG002
        """Return the share in the averages of what an update has left, given its number; 0 without averages."""
        return 0.0

    @abstractmethod
    def step(self, cost: MiniBatchCost[E], weights: Vector, state: State, number: int, factor: float) -> Step[E]:
        """Take one step, in place.

        Weights and vectors stay unchanged if cost or gradient is not finite. All changes happen in one context of
        cost.space.changing.

        Args:
            cost: of the mini-batch.
            weights: the flat weights.
            state: of the optimizer.
            number: of the update, counted from 1 without skipped steps.
            factor: on the learning rate, from the schedule.
        """


def average_share(average: float, number: int) -> float:
    """Return the share of an update in the averages: all of the first, and later no less than 1 - average.

    The decay rises as (n - 1) / (n + 9), so that the average of a short run is of its last tenth, and not of its first
    weights (as in TensorFlow's ExponentialMovingAverage).

    Args:
        average: the largest decay; 0 for no averages.
        number: of the update, counted from 1.
    """
    return max(1 - average, 10 / (number + 9)) if average else 0.0
