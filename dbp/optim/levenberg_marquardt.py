"""Levenberg-Marquardt (More 1978): least squares, and other costs, by the Gauss-Newton matrix in a trust region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Generic

import numpy as np
from numpy.typing import NDArray

from dbp.checks import check_at_least, check_fraction, check_positive
from dbp.optim.dense_trust_region import Proposal
from dbp.optim.gauss_newton import Dense, GaussNewton, Subspace
from dbp.optim.method import E, Method, Objective, Outcome, State, Step, Vector, cache_blocks, copy

ACCEPTED = (
    1e-4  # the part of the predicted reduction that a step must come to; this and the others as in MINPACK's lmder
)
POOR, GOOD = 0.25, 0.75  # parts of it at which the radius shrinks and grows
BASIS = "basis_{}"


@dataclass(frozen=True)
class LevenbergMarquardt(Method):
    """Steps to the minimum of the Gauss-Newton model of the cost within a trust region.

    For the mean of squares this is the method of More (1978), "The Levenberg-Marquardt algorithm: implementation and
    theory", as MINPACK's lmder has it, from the normal equations; for other losses J^T J becomes J^T H J, with H the
    Hessian by the outputs (Schraudolph 2002). A step tries ever smaller radii until the cost falls. It is at its best
    where the mini-batch is the whole data set; then nothing is evaluated twice and convergence is found.

    Args:
        cost_tolerance: the part of the cost, predicted and actual, by which a step must lower it, or it has converged.
        step_tolerance: the radius at which it has converged, relative to the norm of the weights.
        gradient_tolerance: the norm of the gradient by the scaled weights, relative to the root of twice the cost, at
            which it has converged. No tolerance is below the precision of the weights.
        initial_radius: of the trust region, relative to the norm of the weights. Norms are those of scaled weights.
        dense_up_to: so many weights have the Gauss-Newton matrix formed, and are scaled by its diagonal; more have it
            projected on a subspace, and are not scaled.
        subspace: the dimensions of that, each of which takes a product with the matrix, and a vector.
    """

    kind: ClassVar[str] = "levenberg_marquardt"
    length: ClassVar[str] = "trust_radius"
    vectors = ("gradient", "scale")
    cost_tolerance: float = 1e-8
    step_tolerance: float = 1e-8
    gradient_tolerance: float = 1e-8
    initial_radius: float = 100.0
    dense_up_to: int = 2000
    subspace: int = 20

    def __post_init__(self) -> None:
        check_fraction(cost_tolerance=self.cost_tolerance, step_tolerance=self.step_tolerance)
        check_fraction(gradient_tolerance=self.gradient_tolerance)
        check_positive(initial_radius=self.initial_radius)
        check_at_least(0, dense_up_to=self.dense_up_to)
        check_at_least(1, subspace=self.subspace)

    @property
    def scratch(self) -> tuple[str, ...]:
        """The step, the weights after it, and what spans the subspace."""
        return ("step", "trial", *(BASIS.format(i) for i in range(self.subspace)))

    def numbers(self) -> dict[str, NDArray[Any]]:
        """The cost at the weights, and the radius, once they are known."""
        return {"cost": np.zeros(0), "radius": np.zeros(0)}

    def step(self, objective: Objective[E], weights: Vector, state: State, number: int, factor: float) -> Step[E]:  # noqa: ARG002
        """One step that lowers the cost, if there is one; see Method.step()."""
        with objective.space.changing:
            return _Iteration(self, objective, weights, state).run()


class _Iteration(Generic[E]):
    """One step: what is at its start, and what is tried."""

    def __init__(self, method: LevenbergMarquardt, objective: Objective[E], weights: Vector, state: State):
        self.method, self.objective, self.weights, self.state = method, objective, weights, state
        self.space, self.numbers = objective.space, state.numbers
        self.gradient, self.scale = state.vectors["gradient"], state.vectors["scale"]
        self.trial, self.direction = state.scratch["trial"], state.scratch["step"]
        self.smallest = float(np.finfo(weights.dtype).eps)
        self.evaluations = self.products = 0

    def run(self) -> Step[E]:
        """The step."""
        if not (self.objective.is_deterministic and len(self.numbers["cost"])):
            evaluation = self._evaluate(self.weights)
            if not evaluation.finite:
                return self._end(evaluation, Outcome.NOT_FINITE, "begin with other weights")
            self._keep(evaluation)
        if self.space.dot(self.gradient, self.gradient) == 0:
            return self._stay("the gradient is zero")
        model = self._model()
        if not model.finite:
            return self._end(self._evaluate(self.weights), Outcome.NOT_FINITE, "the Gauss-Newton matrix is not finite")
        slope = self._slope()
        if slope <= max(self.method.gradient_tolerance, self.smallest) * (2 * max(self.cost, 0)) ** 0.5:
            return self._stay(f"the norm of the scaled gradient is {slope:.1e}")
        return self._search(model)

    def _search(self, model: GaussNewton) -> Step[E]:
        """Ever smaller steps, until one lowers the cost as it should, or it is at its minimum."""
        known, radius, norm = len(self.numbers["radius"]), self._radius(), self._norm()
        before = radius
        while True:
            proposal = model.step(radius, self.direction)
            if not known:
                known, radius = 1, min(radius, proposal.norm)
            evaluation = self._try()
            actual = self.cost - evaluation.cost if evaluation.finite else -float("inf")
            ratio = actual / proposal.reduction if proposal.reduction > 0 else 0.0
            radius = _resized(radius, proposal, actual, ratio)
            reason = self._at_minimum(proposal, actual, ratio, radius, norm)
            if ratio >= ACCEPTED:
                return self._accept(evaluation, radius, reason)
            if reason:
                break
        if not evaluation.finite:
            return self._end(evaluation, Outcome.NOT_FINITE, "there is no cost beside these weights")
        self.numbers["radius"] = np.array([radius if self.objective.is_deterministic else POOR * before])
        return self._stay(reason)

    def _at_minimum(self, proposal: Proposal, actual: float, ratio: float, radius: float, norm: float) -> str:
        """By which of MINPACK's tests the cost cannot fall further; empty if it can."""
        small = max(self.method.cost_tolerance, self.smallest) * self.cost
        if abs(actual) <= small and proposal.reduction <= small and ratio <= 2:
            return f"a step lowers the cost by {max(proposal.reduction, actual):.1e}"
        if radius <= max(self.method.step_tolerance, self.smallest) * norm:
            return f"the trust region has shrunk to {radius:.1e}"
        return ""

    def _accept(self, evaluation: E, radius: float, reason: str) -> Step[E]:
        """Move to the trial."""
        copy(self.space, self.trial, self.weights)
        self._keep(evaluation)
        self.numbers["radius"] = np.array([radius])
        converged = reason and self.objective.is_deterministic
        return self._end(evaluation, Outcome.CONVERGED, reason) if converged else self._end(evaluation)

    def _stay(self, reason: str) -> Step[E]:
        """Nothing lowers the cost: that of the whole data has its minimum here, that of a mini-batch may."""
        evaluation = self._evaluate(self.weights)
        is_deterministic = self.objective.is_deterministic
        return self._end(evaluation, Outcome.CONVERGED, reason) if is_deterministic else self._end(evaluation)

    def _end(self, evaluation: E, outcome: Outcome = Outcome.GOES_ON, reason: str = "") -> Step[E]:
        radius = self.numbers["radius"]
        return Step(
            evaluation, outcome, self.evaluations, self.products, float(radius[0]) if len(radius) else 0.0, reason
        )

    def _evaluate(self, weights: Vector) -> E:
        self.evaluations += 1
        return self.objective.value_and_gradient(weights)

    def _try(self) -> E:
        for block in cache_blocks(self.space.owned):
            np.add(self.weights[block], self.direction[block], out=self.trial[block])
        return self._evaluate(self.trial)

    def _keep(self, evaluation: E) -> None:
        """Cost and gradient at the weights."""
        copy(self.space, evaluation.gradient, self.gradient)
        self.numbers["cost"] = np.array([evaluation.cost])

    @property
    def cost(self) -> float:
        """At the weights."""
        return float(self.numbers["cost"][0])

    def _model(self) -> GaussNewton:
        curvature = self.objective.curvature(self.weights)
        if len(self.weights) <= self.method.dense_up_to:
            model: GaussNewton = Dense(self.space, self.objective.root, curvature, self.gradient, self.scale)
        else:
            for block in cache_blocks(self.space.owned):
                self.scale[block] = 1
            basis = [self.state.scratch[BASIS.format(i)] for i in range(self.method.subspace)]
            model = Subspace(self.space, self.objective.root, curvature, self.gradient, basis, self._radius())
        self.products += model.products
        return model

    def _radius(self) -> float:
        """Of the trust region at the start of the step."""
        if len(self.numbers["radius"]):
            return float(self.numbers["radius"][0])
        return self.method.initial_radius * (self._norm() or 1.0)

    def _norm(self) -> float:
        """Of the scaled weights."""
        for block in cache_blocks(self.space.owned):
            np.multiply(self.weights[block], self.scale[block], out=self.trial[block])
        return float(self.space.dot(self.trial, self.trial) ** 0.5)

    def _slope(self) -> float:
        """The norm of the gradient by the scaled weights."""
        for block in cache_blocks(self.space.owned):
            np.divide(self.gradient[block], self.scale[block], out=self.trial[block])
        return float(self.space.dot(self.trial, self.trial) ** 0.5)


def _resized(radius: float, proposal: Proposal, actual: float, ratio: float) -> float:
    """The radius after a step whose reduction came to this ratio of the predicted one (More 1978, section 4)."""
    if ratio <= POOR:
        factor = 0.5 if actual >= 0 else 0.5 * proposal.slope / (proposal.slope + actual)  # a parabola's minimum
        return max(factor, 0.1) * min(radius, 10 * proposal.norm)
    return 2 * proposal.norm if proposal.damping == 0 or ratio >= GOOD else radius
