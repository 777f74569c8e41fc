"""L-BFGS (Liu and Nocedal 1989) with a line search for the strong Wolfe conditions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Generic

import numpy as np
from numpy.typing import NDArray

from dbp.checks import check_at_least, check_not_negative
from dbp.optim.blockwise import cache_blocks, copy_owned, step_along
from dbp.optim.lbfgs_history import History
from dbp.optim.line_search import Found, strong_wolfe
from dbp.optim.optimizer import Optimizer, Outcome, State, Step
from dbp.optim.protocols import E, MiniBatchCost, Vector


@dataclass(frozen=True)
class LBFGS(Optimizer):
    """Steps along -H g, with H the inverse Hessian that the last steps imply (Nocedal and Wright 2006, Algorithm 7.5).

    An iteration takes one mini-batch. Both gradients of a pair are over all of its examples, so that their difference
    is due to the step and not to other examples (full overlap: Bollapragada et al. 2018, section 2). With a full batch
    no evaluation is repeated, and convergence is detected. A pair without positive curvature is dropped.

    Args:
        memory: the number of pairs that are kept.
        gradient_tolerance: the optimizer has converged when the norm of the gradient is at most this.
        cost_tolerance: the optimizer has converged when a step lowers the cost by no more than this part of it.
        evaluations: the largest number of evaluations of cost and gradient in one line search.
    """

    kind: ClassVar[str] = "lbfgs"
    memory: int = 10
    gradient_tolerance: float = 1e-7
    cost_tolerance: float = 1e-12
    evaluations: int = 20

    def __post_init__(self) -> None:
        check_at_least(1, memory=self.memory, evaluations=self.evaluations)
        check_not_negative(gradient_tolerance=self.gradient_tolerance, cost_tolerance=self.cost_tolerance)

    @property
    def vectors(self) -> tuple[str, ...]:
        """Name the gradient at the weights and the pairs."""
        return History.vectors(self.memory)

    scratch = ("trial",)

    def numbers(self) -> dict[str, NDArray[Any]]:
        """Return the numbers of an empty history; cost and products at the weights are unknown, of length 0."""
        return History.numbers(self.memory) | {"cost": np.zeros(0), "products": np.zeros(0)}

    def step(self, cost: MiniBatchCost[E], weights: Vector, state: State, number: int, factor: float) -> Step[E]:  # noqa: ARG002
        """Find a direction and search along it; see Optimizer.step()."""
        with cost.space.changing:
            return _LBFGSStep(self, cost, weights, state).run()


class _LBFGSStep(Generic[E]):
    """One iteration: the direction from the history, and the line search along it."""

    def __init__(self, optimizer: LBFGS, cost: MiniBatchCost[E], weights: Vector, state: State):
        self.optimizer, self.cost_function, self.weights, self.state = optimizer, cost, weights, state
        self.space, self.history = cost.space, History(state, optimizer.memory)
        self.gradient, self.trial = self.history.gradient, state.scratch["trial"]
        self.evaluations = 0

    def run(self) -> Step[E]:
        """Evaluate the weights unless they are known, then search along the next direction."""
        numbers = self.state.numbers
        if not (self.cost_function.is_deterministic and len(numbers["cost"])):
            evaluation = self._evaluate(self.weights)
            if not evaluation.finite:
                return self._end(evaluation, Outcome.NOT_FINITE, reason="begin with other weights")
            self._keep(evaluation.cost, evaluation.gradient)
            numbers["products"] = self.history.products(self.space)
            if self._has_converged():
                return self._end(evaluation, Outcome.CONVERGED, reason=self._norm())
        slope = self.history.find_direction(self.space, numbers["products"])
        if not slope < 0:  # rounding errors: the direction is not one of descent
            self.history.clear()
            numbers["products"] = numbers["products"][-1:]
            slope = self.history.find_direction(self.space, numbers["products"])
        return self._search(slope)

    def _search(self, slope: float) -> Step[E]:
        """Search along the direction, then move there and add the new pair to the history."""
        cost, norm = float(self.state.numbers["cost"][0]), float(self.state.numbers["products"][-1]) ** 0.5
        first = 1.0 if self.history.pairs else min(1.0, 1 / norm)
        search = strong_wolfe(cost, slope, first, self.optimizer.evaluations)
        length = next(search)
        while True:
            evaluation = self._try(length)
            slope = self.space.dot(self.history.direction, evaluation.gradient) if evaluation.finite else float("nan")
            try:
                length = search.send((evaluation.cost, slope))
            except StopIteration as end:
                found: Found = end.value
                break
        if found.length == 0:
            return self._failed()
        if not found.is_last:
            evaluation = self._try(found.length)
        self._accept(evaluation, found.length)
        return self._check_progress(evaluation, found.length, cost)

    def _check_progress(self, evaluation: E, length: float, before: float) -> Step[E]:
        """Return the step, which has converged if gradient or decrease are below their tolerance."""
        decrease = before - evaluation.cost
        if self._has_converged():
            return self._end(evaluation, Outcome.CONVERGED, length, self._norm())
        if self.cost_function.is_deterministic and decrease <= self.optimizer.cost_tolerance * abs(before):
            reason = f"the last step lowered the cost by {decrease:.1e}"
            return self._end(evaluation, Outcome.CONVERGED, length, reason)
        return self._end(evaluation, Outcome.CONTINUES, length)

    def _failed(self) -> Step[E]:
        """Clear the history, because no step along its direction lowers the cost; end if it was empty already."""
        evaluation = self._evaluate(self.weights)
        is_final = not self.history.pairs and self.cost_function.is_deterministic
        self.history.clear()
        self.state.numbers["products"] = self.state.numbers["products"][-1:]
        reason = f"no step along the gradient lowers the cost; {self._norm()}"
        return self._end(evaluation, Outcome.LINE_SEARCH_FAILED, reason=reason) if is_final else self._end(evaluation)

    def _end(
        self, evaluation: E, outcome: Outcome = Outcome.CONTINUES, length: float = 0.0, reason: str = ""
    ) -> Step[E]:
        return Step(evaluation, outcome, self.evaluations, length=length, reason=reason)

    def _evaluate(self, weights: Vector) -> E:
        """Return cost and gradient, and count the evaluation."""
        self.evaluations += 1
        return self.cost_function.value_and_gradient(weights)

    def _try(self, length: float) -> E:
        """Return cost and gradient after a step of this length."""
        step_along(self.space, self.history.direction, length, self.weights, self.trial)
        return self._evaluate(self.trial)

    def _accept(self, evaluation: E, length: float) -> None:
        """Move the weights to the trial, and add the pair to the history."""
        change, gradient = self.history.change, evaluation.gradient
        for block in cache_blocks(self.space.owned):
            np.subtract(gradient[block], self.gradient[block], out=change[block])
            self.weights[block] = self.trial[block]
            self.gradient[block] = gradient[block]
        self.state.numbers["cost"] = np.array([evaluation.cost])
        self.state.numbers["products"] = self.history.add(self.space, length)

    def _keep(self, cost: float, gradient: Vector) -> None:
        """Store cost and gradient at the weights."""
        copy_owned(self.space, gradient, self.gradient)
        self.state.numbers["cost"] = np.array([cost])

    def _has_converged(self) -> bool:
        """Return True if the norm of the gradient is within its tolerance."""
        square = float(self.state.numbers["products"][-1])
        return self.cost_function.is_deterministic and square <= self.optimizer.gradient_tolerance**2

    def _norm(self) -> str:
        """Return a text with the norm of the gradient."""
        return f"the gradient's norm is {float(self.state.numbers['products'][-1]) ** 0.5:.1e}"
