"""Levenberg-Marquardt (Moré 1978): the Gauss-Newton model in a trust region, for least squares and other costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Generic

import numpy as np
from numpy.typing import NDArray

from dbp.checks import check_at_least, check_fraction, check_positive
from dbp.optim.blockwise import cache_blocks, copy_owned
from dbp.optim.dense_trust_region import TrustRegionStep
from dbp.optim.gauss_newton import DenseModel, GaussNewtonModel, SubspaceModel
from dbp.optim.optimizer import Optimizer, Outcome, State, Step
from dbp.optim.protocols import E, MiniBatchCost, Vector

# Ratios of actual to predicted reduction, as in MINPACK's lmder.
ACCEPT_RATIO = 1e-4  # a step is accepted from here on
SHRINK_RATIO, GROW_RATIO = 0.25, 0.75  # the radius shrinks up to the first and grows from the second on
BASIS = "basis_{}"


@dataclass(frozen=True)
class LevenbergMarquardt(Optimizer):
    """Steps to the minimum of the Gauss-Newton model of the cost within a trust region.

    For mean squared error this is the method of Moré (1978), "The Levenberg-Marquardt algorithm: implementation and
    theory", as in MINPACK's lmder, but on the normal equations. For other losses J^T J becomes J^T H J, with H the
    Hessian of the cost by the outputs (Schraudolph 2002). A step tries ever smaller radii until the cost falls. With a
    full batch nothing is evaluated twice, and convergence is detected. It is not where weights have lost all influence
    on the outputs since the start: their gradient is zero there, however far the minimum is.

    No tolerance counts as less than the precision of the weights; norms are those of the scaled weights.

    Args:
        cost_tolerance: the optimizer has converged when a step lowers the cost, predicted and actual, by no more than
            this part of it.
        step_tolerance: the optimizer has converged when the radius is at most this part of the norm of the weights.
        gradient_tolerance: the optimizer has converged when the norm of the gradient by the scaled weights is at most
            this part of the square root of twice the cost.
        initial_radius: of the trust region, as a multiple of the norm of the weights.
        dense_up_to: the largest number of weights for which the Gauss-Newton matrix is formed, and the weights scaled
            by its diagonal; with more weights it is projected on a subspace, and they are not scaled.
        subspace: the largest dimension of that subspace; each dimension costs a product with the matrix and a vector.
    """

    kind: ClassVar[str] = "levenberg_marquardt"
    length_name: ClassVar[str] = "trust_radius"
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
        """Name the step, the weights after it, and the basis of the subspace."""
        return ("step", "trial", *(BASIS.format(i) for i in range(self.subspace)))

    def numbers(self) -> dict[str, NDArray[Any]]:
        """Return cost and radius at the weights: unknown, of length 0."""
        return {"cost": np.zeros(0), "radius": np.zeros(0)}

    def step(self, cost: MiniBatchCost[E], weights: Vector, state: State, number: int, factor: float) -> Step[E]:  # noqa: ARG002
        """Take a step that lowers the cost, if there is one; see Optimizer.step()."""
        with cost.space.changing:
            return _LevenbergMarquardtStep(self, cost, weights, state).run()


class _LevenbergMarquardtStep(Generic[E]):
    """One step: the model at the weights, and trials with ever smaller radii."""

    def __init__(self, optimizer: LevenbergMarquardt, cost: MiniBatchCost[E], weights: Vector, state: State):
        self.optimizer, self.cost_function, self.weights, self.state = optimizer, cost, weights, state
        self.space, self.numbers = cost.space, state.numbers
        self.gradient, self.scale = state.vectors["gradient"], state.vectors["scale"]
        self.trial, self.direction = state.scratch["trial"], state.scratch["step"]
        self.precision = float(np.finfo(weights.dtype).eps)
        self.evaluations = self.products = self.idle = self.lost = 0

    def run(self) -> Step[E]:
        """Evaluate the weights unless they are known, and search for a step unless they are at a minimum."""
        if not (self.cost_function.is_deterministic and len(self.numbers["cost"])):
            evaluation = self._evaluate(self.weights)
            if not evaluation.finite:
                return self._end(evaluation, Outcome.NOT_FINITE, "begin with other weights")
            self._keep(evaluation)
        if self.space.dot(self.gradient, self.gradient) == 0:
            self._find_idle()
            return self._stay("the gradient is zero")
        model = self._model()
        if not model.finite:
            return self._end(self._evaluate(self.weights), Outcome.NOT_FINITE, "the Gauss-Newton matrix is not finite")
        slope = self._slope()
        if slope <= max(self.optimizer.gradient_tolerance, self.precision) * (2 * max(self.cost, 0)) ** 0.5:
            return self._stay(f"the norm of the scaled gradient is {slope:.1e}")
        return self._search(model)

    def _search(self, model: GaussNewtonModel) -> Step[E]:
        """Try ever smaller radii, until a step lowers the cost enough or the cost is at its minimum."""
        known, radius, norm = len(self.numbers["radius"]), self._radius(), self._norm()
        before = radius
        while True:
            trial_step = model.step(radius, self.direction)
            if not known:
                known, radius = 1, min(radius, trial_step.norm)
            evaluation = self._try()
            actual = self.cost - evaluation.cost if evaluation.finite else -float("inf")
            ratio = actual / trial_step.reduction if trial_step.reduction > 0 else 0.0
            radius = _resized(radius, trial_step, actual, ratio)
            reason = self._at_minimum(trial_step, actual, ratio, radius, norm)
            if ratio >= ACCEPT_RATIO:
                return self._accept(evaluation, radius, reason)
            if reason:
                break
        if not evaluation.finite:
            return self._end(evaluation, Outcome.NOT_FINITE, "the cost is not finite at any weights near these")
        self.numbers["radius"] = np.array([radius if self.cost_function.is_deterministic else SHRINK_RATIO * before])
        return self._stay(reason)

    def _at_minimum(self, trial_step: TrustRegionStep, actual: float, ratio: float, radius: float, norm: float) -> str:
        """Return why the cost is at its minimum, by the tests of MINPACK's lmder; an empty text if it is not."""
        small = max(self.optimizer.cost_tolerance, self.precision) * self.cost
        if abs(actual) <= small and trial_step.reduction <= small and ratio <= 2:
            return f"a step lowers the cost by {max(trial_step.reduction, actual):.1e}"
        if radius <= max(self.optimizer.step_tolerance, self.precision) * norm:
            return f"the trust region has shrunk to {radius:.1e}"
        return ""

    def _accept(self, evaluation: E, radius: float, reason: str) -> Step[E]:
        """Move the weights to the trial."""
        copy_owned(self.space, self.trial, self.weights)
        self._keep(evaluation)
        self.numbers["radius"] = np.array([radius])
        converged = reason and self.cost_function.is_deterministic
        return self._end(evaluation, Outcome.CONVERGED, reason) if converged else self._end(evaluation)

    def _stay(self, reason: str) -> Step[E]:
        """Stay, because nothing lowers the cost; with a full batch the optimizer has converged."""
        evaluation = self._evaluate(self.weights)
        is_deterministic = self.cost_function.is_deterministic
        return self._end(evaluation, Outcome.CONVERGED, reason) if is_deterministic else self._end(evaluation)

    def _end(self, evaluation: E, outcome: Outcome = Outcome.CONTINUES, reason: str = "") -> Step[E]:
        radius = self.numbers["radius"]
        if outcome is Outcome.CONVERGED and self.lost:
            outcome = Outcome.INFLUENCE_LOST
            have = "has" if self.lost == 1 else "have"
            reason = (
                f"{self.lost} of {len(self.weights)} weights {have} none on the outputs any more, so the minimum may "
                "be elsewhere; try a smaller initial_radius"
            )
        elif outcome is Outcome.CONVERGED and self.idle:
            have = "has" if self.idle == 1 else "have"
            reason += f"; {self.idle} of {len(self.weights)} weights {have} no influence on the outputs there"
        return Step(
            evaluation, outcome, self.evaluations, self.products, float(radius[0]) if len(radius) else 0.0, reason
        )

    def _evaluate(self, weights: Vector) -> E:
        """Return cost and gradient, and count the evaluation."""
        self.evaluations += 1
        return self.cost_function.value_and_gradient(weights)

    def _try(self) -> E:
        """Return cost and gradient after the step."""
        for block in cache_blocks(self.space.owned):
            np.add(self.weights[block], self.direction[block], out=self.trial[block])
        return self._evaluate(self.trial)

    def _keep(self, evaluation: E) -> None:
        """Store cost and gradient at the weights."""
        copy_owned(self.space, evaluation.gradient, self.gradient)
        self.numbers["cost"] = np.array([evaluation.cost])

    @property
    def cost(self) -> float:
        """Return the cost at the weights."""
        return float(self.numbers["cost"][0])

    @property
    def _is_dense(self) -> bool:
        return len(self.weights) <= self.optimizer.dense_up_to

    def _model(self) -> GaussNewtonModel:
        """Return the model at the weights, and count its products."""
        curvature, root = self.cost_function.curvature(self.weights), self.cost_function.root
        if self._is_dense:
            model: GaussNewtonModel = DenseModel(self.space, root, curvature, self.gradient, self.scale)
        else:
            for block in cache_blocks(self.space.owned):
                self.scale[block] = 1
            basis = [self.state.scratch[BASIS.format(i)] for i in range(self.optimizer.subspace)]
            model = SubspaceModel(self.space, root, curvature, self.gradient, basis, self._radius())
        self.products += model.products
        self.idle, self.lost = model.idle, model.lost
        return model

    def _find_idle(self) -> None:
        """Find out whether weights have no influence on the outputs where the gradient is zero."""
        if self._is_dense:
            self._model()
            return
        product = self.cost_function.curvature(self.weights).gauss_newton_product(self.weights)
        self.products += 1
        if self.space.dot(product, product) == 0:
            self.lost = len(self.weights)

    def _radius(self) -> float:
        """Return the radius of the trust region at the start of the step."""
        if len(self.numbers["radius"]):
            return float(self.numbers["radius"][0])
        return self.optimizer.initial_radius * (self._norm() or 1.0)

    def _norm(self) -> float:
        """Return the norm of the scaled weights."""
        for block in cache_blocks(self.space.owned):
            np.multiply(self.weights[block], self.scale[block], out=self.trial[block])
        return float(self.space.dot(self.trial, self.trial) ** 0.5)

    def _slope(self) -> float:
        """Return the norm of the gradient by the scaled weights."""
        for block in cache_blocks(self.space.owned):
            np.divide(self.gradient[block], self.scale[block], out=self.trial[block])
        return float(self.space.dot(self.trial, self.trial) ** 0.5)


def _resized(radius: float, trial_step: TrustRegionStep, actual: float, ratio: float) -> float:
    """Return the radius after a trial (Moré 1978, section 4).

    Args:
        radius: of the trial.
        trial_step: the trial.
        actual: the decrease of the cost.
        ratio: of the actual to the predicted decrease.
    """
    if ratio <= SHRINK_RATIO:
        factor = (
            0.5 if actual >= 0 else 0.5 * trial_step.slope / (trial_step.slope + actual)
        )  # the minimum of a parabola
        return max(factor, 0.1) * min(radius, 10 * trial_step.norm)
    return 2 * trial_step.norm if trial_step.damping == 0 or ratio >= GROW_RATIO else radius
