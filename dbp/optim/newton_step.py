"""One step of a truncated Newton method: the model of the cost at the weights, and attempts to lower the cost."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Generic, NamedTuple

import numpy as np

from dbp.optim.blockwise import cache_blocks, copy_owned, step_along
from dbp.optim.conjugate_gradients import Iterate, Workspace, conjugate_gradients
from dbp.optim.optimizer import Outcome, State, Step
from dbp.optim.preconditioner import Preconditioner
from dbp.optim.protocols import E, MiniBatchCost, Vector

PROGRESS_ITERATIONS = 10  # progress is measured over at least so many iterations
MAX_ATTEMPTS = 10  # per step, each with more damping or a smaller radius than the one before


class ModelOptions(NamedTuple):
    """How a step minimizes its model; see Newton, which has them as settings."""

    curvature: str
    part: float
    iterations: int
    tolerance: float
    gradient_tolerance: float


class NewtonStep(ABC, Generic[E]):
    """One step of either control: the model at the weights, and attempts to lower the cost."""

    def __init__(self, options: ModelOptions, cost: MiniBatchCost[E], weights: Vector, state: State, evaluation: E):
        self.options, self.cost_function, self.weights, self.state = options, cost, weights, state
        self.space, self.evaluation, self.cost = cost.space, evaluation, evaluation.cost
        self.evaluations, self.products = 1, 0
        self.preconditioner: Preconditioner | None = None
        self.rounding = float(np.finfo(weights.dtype).eps) * abs(self.cost)
        self.predicted = math.inf  # the decrease of the cost that the model of the last attempt predicts
        self.gradient = state.scratch["gradient"]  # a copy, because products overwrite that of the evaluation
        copy_owned(self.space, evaluation.gradient, self.gradient)
        self.norm = math.sqrt(self.space.dot(self.gradient, self.gradient))
        self.solution = (state.vectors | state.scratch)["solution"]

    def run(self) -> Step[E]:
        """Make attempts until one lowers the cost."""
        if self.cost_function.is_deterministic and self.norm <= self.options.gradient_tolerance:
            return self._end(Outcome.CONVERGED)
        self.curvature = self.cost_function.curvature(self.weights, self.options.part)
        self.prepare()
        outcome = Outcome.LINE_SEARCH_FAILED
        for _ in range(MAX_ATTEMPTS):
            direction, length, outcome = self.attempt()
            if length:
                for block in cache_blocks(self.space.owned):
                    self.weights[block] += length * direction[block]
                return self._end(Outcome.CONTINUES, length)
            if self.predicted <= self.rounding:
                break
        return self._end(outcome if self.cost_function.is_deterministic else Outcome.CONTINUES)

    def prepare(self) -> None:
        """Do what is needed once, before all attempts."""

    @abstractmethod
    def attempt(self) -> tuple[Vector, float, Outcome]:
        """Return a direction, the length of the step along it, and why the length is 0, if it is."""

    def _end(self, outcome: Outcome, length: float = 0.0) -> Step[E]:
        reasons = {
            Outcome.CONTINUES: "",
            Outcome.CONVERGED: f"the gradient's norm is {self.norm:.3g}",
            Outcome.LINE_SEARCH_FAILED: f"no step lowers the cost by more than rounding; the gradient's norm is "
            f"{self.norm:.3g}",
            Outcome.NEGATIVE_CURVATURE: f'try control "trust_region"; the gradient\'s norm is {self.norm:.3g}',
        }
        return Step(self.evaluation, outcome, self.evaluations, self.products, length, reasons[outcome])

    def product(self, vector: Vector) -> Vector:
        """Return B times a vector."""
        self.products += 1
        if self.options.curvature == "hessian":
            return self.curvature.hessian_product(vector)
        return self.curvature.gauss_newton_product(vector)

    def cost_at(self, direction: Vector, length: float = 1.0) -> float:
        """Return the cost after a step of this length; infinity if it is not finite."""
        trial = self.state.scratch["trial"]
        step_along(self.space, direction, length, self.weights, trial)
        self.evaluations += 1
        cost = self.cost_function.value(trial)
        return cost if math.isfinite(cost) else math.inf

    def has_stalled(self, models: list[float]) -> bool:
        """Return True if the model no longer decreases enough (Martens 2010, section 4.4).

        Args:
            models: the values of the model, one per iteration.
        """
        now, back = len(models) - 1, max(PROGRESS_ITERATIONS, (len(models) - 1) // 10)
        least = self.options.tolerance * back
        return now > back and models[now] < 0 and models[now] - models[now - back] > least * models[now]

    def iterates(self, damping: float = 0.0, radius: float = math.inf, tolerance: float = 0.0) -> Iterator[Iterate]:
        """Run conjugate gradients on the solution, and yield after each iteration, until the model stalls."""
        scratch, models = self.state.scratch, list[float]()
        residual = scratch["residual"]
        workspace = Workspace(residual, scratch["search"], scratch.get("scaled", residual), self.preconditioner)
        for iterate in conjugate_gradients(
            self.space, self.product, self.gradient, self.solution, workspace, damping, radius, tolerance
        ):
            yield iterate
            models.append(iterate.model)
            if iterate.number == self.options.iterations or self.has_stalled(models):
                return

    def clear_solution(self) -> None:
        """Set the solution to zero, where it is owned."""
        for part in self.space.owned:
            self.solution[part] = 0
