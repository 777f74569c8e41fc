"""Methods that need one gradient a step and treat every weight alike."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from dbp.errors import UserError
from dbp.optim.method import E, Method, Objective, Outcome, State, Step, Vector, pieces

Vectors = Mapping[str, Vector]


class FirstOrder(Method):
    """A method that needs one gradient a step and treats every weight alike."""

    length = "learning_rate"
    learning_rate: float

    def step(self, objective: Objective[E], weights: Vector, state: State, number: int, factor: float) -> Step[E]:
        """One gradient and one update; see Method.step()."""
        evaluation, rate = objective.value_and_gradient(weights), self.learning_rate * factor
        if not evaluation.finite:
            return Step(evaluation, Outcome.NOT_FINITE, length=rate, reason="try a smaller learning_rate")
        gradient = evaluation.gradient
        for piece in pieces(objective.space.owned):
            vectors = {name: vector[piece] for name, vector in state.vectors.items()}
            self.update(weights[piece], gradient[piece], vectors, number, rate)
        return Step(evaluation, length=rate)

    @abstractmethod
    def update(self, w: Vector, g: Vector, vectors: Vectors, number: int, learning_rate: float) -> None:
        """Update a piece of the weights and of the method's vectors in place."""


def check_learning_rate(learning_rate: float) -> None:
    """UserError unless it is a positive number."""
    if not 0 < learning_rate < float("inf"):
        raise UserError(f"learning_rate must be a positive number, but is {learning_rate}")


def check_fraction(name: str, value: float) -> None:
    """UserError unless the value is at least 0 and below 1."""
    if not 0 <= value < 1:
        raise UserError(f"{name} must be at least 0 and below 1, but is {value}")
