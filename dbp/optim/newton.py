"""Truncated Newton methods: each step minimizes a quadratic model of the cost approximately, by conjugate gradients.

With the Gauss-Newton matrix and damping this is the Hessian-free method of Martens 2010; with the Hessian and a trust
region it is that of Steihaug 1983.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dbp.checks import check_at_least, check_fraction, check_not_negative, check_positive
from dbp.errors import UserError, unknown
from dbp.optim.blockwise import cache_blocks, copy_owned
from dbp.optim.conjugate_gradients import Iterate
from dbp.optim.newton_step import ModelOptions, NewtonStep
from dbp.optim.optimizer import Optimizer, Outcome, State, Step
from dbp.optim.preconditioner import DiagonalPreconditioner, KroneckerPreconditioner, Preconditioner
from dbp.optim.protocols import E, MiniBatchCost, Vector

STORED_ITERATES = 5  # kept besides the last one; the cost may be lower at one of them
ITERATE_SPACING = 1.5  # ratio of the iteration numbers of successive stored iterates (Martens 2010, section 4.6)
MIN_DAMPING = 1e-15
MAX_BACKTRACKS = 20  # halvings of the step length per line search
SUFFICIENT_DECREASE = 1e-4  # of the cost, as a part of what the slope or the model predicts
GOOD_RATIO = 3 / 4  # of the actual to the predicted decrease: from here on the model counts as right
DAMPING_FACTORS = 1 / 3, 4.0  # the least and the largest after an attempt
MAX_RESIDUAL = 0.03  # of a step within a radius, as a part of the gradient
CURVATURES, CONTROLS = ("gauss_newton", "hessian"), ("damping", "trust_region")
PRECONDITIONERS = ("squared_gradients", "kronecker")


@dataclass(frozen=True)
class Newton(Optimizer):
    """Steps to an approximate minimum d of the model f + g.d + d.B d / 2 of the cost.

    Control "damping" adds damping |d|^2 / 2 to the model, and raises the damping where the model predicts too large a
    decrease (Levenberg-Marquardt; Martens 2010, section 4.1; Nielsen 1999). The iterate of conjugate gradients with the
    lowest cost is the direction of a backtracking line search. Control "trust_region" bounds |d| by a radius (Nocedal
    and Wright 2006, Algorithm 4.1), and solves for it no more precisely than to a residual of min(0.03, |g|^1/2) |g|
    (Algorithm 7.2): a more precise step of a model that does not hold yet follows curved valleys too closely.

    Args:
        curvature: the matrix B: "gauss_newton", which is positive semi-definite, or "hessian".
        control: "damping" or "trust_region".
        damping: the initial damping.
        radius: the initial radius.
        iterations: the largest number of conjugate gradient iterations in one step.
        tolerance: conjugate gradients stop when the relative decrease of the model per iteration, averaged over the
            last ones, is below it.
        part: the part of the mini-batch that B is computed from; cost and gradient always use all of it.
        preconditioner: "squared_gradients", a diagonal; or "kronecker", the factors that K-FAC uses, with which far
            fewer iterations suffice in deep networks of dense and convolutional layers. Used with damping only.
        precondition: the exponent of the diagonal (squared gradients + damping)^precondition; 0 for none.
        probes: the number of random gradients that estimate the squared gradients.
        decay: the factor on a step's solution from which the next step's iterations start; 0 to start from zero. Used
            with damping only.
        gradient_tolerance: the optimizer has converged when the norm of the gradient is at most this.
    """

    kind: ClassVar[str] = "newton"
    curvature: str = "gauss_newton"
    control: str = "damping"
    damping: float = 1.0
    radius: float = 1.0
    iterations: int = 250
    tolerance: float = 5e-4
    part: float = 1.0
    preconditioner: str = "squared_gradients"
    precondition: float = 0.75
    probes: int = 1
    decay: float = 0.95
    gradient_tolerance: float = 1e-7

    def __post_init__(self) -> None:
        choices = {"curvature": CURVATURES, "control": CONTROLS, "preconditioner": PRECONDITIONERS}
        for name, valid in choices.items():
            if getattr(self, name) not in valid:
                raise unknown(name, getattr(self, name), valid)
        if self.preconditioner == "kronecker" and not self._damped:
            raise UserError("preconditioner 'kronecker' goes only with control 'damping'; leave one of the two out")
        check_positive(damping=self.damping, radius=self.radius)
        check_at_least(1, iterations=self.iterations, probes=self.probes)
        if not 0 < self.part <= 1:
            raise UserError(f"part must be above 0 and at most 1, but is {self.part}")
        check_not_negative(tolerance=self.tolerance, precondition=self.precondition)
        check_not_negative(gradient_tolerance=self.gradient_tolerance)
        check_fraction(decay=self.decay)

    @property
    def _damped(self) -> bool:
        return self.control == "damping"

    @property
    def _by_factors(self) -> bool:
        return self._damped and self.preconditioner == "kronecker"

    @property
    def _by_diagonal(self) -> bool:
        return self._damped and self.preconditioner == "squared_gradients" and self.precondition > 0

    @property
    def vectors(self) -> tuple[str, ...]:
        """Name the last step, which the damping is judged by, and the last solution, if the next one starts from it."""
        return (*["solution"] * (self.decay > 0), "step") if self._damped else ()

    @property
    def scratch(self) -> tuple[str, ...]:
        """Name the vectors of conjugate gradients and of the weights on trial."""
        names = ["gradient", "residual", "search", "trial"]
        names += ["solution"] * ("solution" not in self.vectors)
        names += ["scaled"] * (self._by_factors or self._by_diagonal) + ["inverse"] * self._by_diagonal
        names += [f"iterate_{i}" for i in range(STORED_ITERATES)] * self._damped
        return tuple(names)

    @property
    def model_options(self) -> ModelOptions:
        """Return how a step minimizes its model."""
        return ModelOptions(self.curvature, self.part, self.iterations, self.tolerance, self.gradient_tolerance)

    def numbers(self) -> dict[str, NDArray[Any]]:
        """Return the initial damping, and the decrease of the cost that the last step predicts, or the radius."""
        if not self._damped:
            return {"radius": np.array([self.radius])}
        return {"damping": np.array([self.damping]), "predicted": np.zeros(1)}

    def step(self, cost: MiniBatchCost[E], weights: Vector, state: State, number: int, factor: float) -> Step[E]:  # noqa: ARG002
        """Minimize the model at the weights and step as far as the cost falls; see Optimizer.step()."""
        evaluation = cost.value_and_gradient(weights)
        if not evaluation.finite:
            return Step(evaluation, Outcome.NOT_FINITE, reason="begin with other weights")
        with cost.space.changing:
            if self._damped:
                return _DampedStep(self, cost, weights, state, evaluation).run()
            return _TrustRegionStep(self.model_options, cost, weights, state, evaluation).run()


@dataclass(frozen=True)
class _Candidate:
    """A direction and the model's value at its end, relative to its start."""

    direction: Vector
    model: float


class _DampedStep(NewtonStep[E]):
    """A step with damping and a line search."""

    def __init__(self, optimizer: Newton, cost: MiniBatchCost[E], weights: Vector, state: State, evaluation: E):
        super().__init__(optimizer.model_options, cost, weights, state, evaluation)
        self.optimizer = optimizer

    def prepare(self) -> None:
        """Set the initial solution and the preconditioner (Martens 2010, sections 4.5 and 4.7)."""
        self._judge_last_step()
        if "solution" not in self.state.vectors:
            self.clear_solution()
        for part in self.space.owned:
            self.solution[part] *= self.optimizer.decay
        if (made := self._preconditioner()) is not None:
            self.preconditioner = made
            self.products += made.products

    def _preconditioner(self) -> Preconditioner | None:
        options, state, damping = self.optimizer, self.state, self.damping
        if options.preconditioner == "kronecker":
            return KroneckerPreconditioner(self.cost_function, self.weights, options.part, damping, state.derived)
        if (inverse := state.scratch.get("inverse")) is None:
            return None
        exponent, probes = options.precondition, options.probes
        return DiagonalPreconditioner(self.space, self.curvature, inverse, damping, exponent, probes)

    @property
    def damping(self) -> float:
        """Return the current damping."""
        return float(self.state.numbers["damping"][0])

    def set_damping(self, damping: float) -> None:
        """Set the damping, which never falls below MIN_DAMPING."""
        self.state.numbers["damping"] = np.array([max(damping, MIN_DAMPING)])

    def attempt(self) -> tuple[Vector, float, Outcome]:
        """Search along the best iterate, and adapt the damping; see NewtonStep.attempt()."""
        damping, (candidates, curvature) = self.damping, self._solve()
        if not candidates:
            self.clear_solution()
            self.set_damping(max(4 * damping, damping - 2 * curvature) if math.isfinite(curvature) else 4 * damping)
            return self.solution, 0.0, Outcome.NEGATIVE_CURVATURE
        best, cost = self._best(candidates)
        slope, square = self.space.dots([best.direction], [self.gradient, best.direction])[0].tolist()
        ratio = (cost - self.cost) / (best.model - damping * square / 2)
        self.predicted = -best.model
        if self.cost_function.is_deterministic or not curvature > 0:
            self.set_damping(damping_factor(ratio if curvature > 0 else 0.0) * damping)
        length = self._backtrack(best.direction, slope, cost)
        self._keep(best, length, slope, damping * square / 2)
        if not length:
            self.clear_solution()
            self.set_damping(4 * damping)
        return best.direction, length, Outcome.LINE_SEARCH_FAILED

    def _keep(self, best: _Candidate, length: float, slope: float, damped: float) -> None:
        """Keep the step, and the decrease of the cost along it that the model without damping predicts.

        Args:
            best: the direction.
            length: of the step along it.
            slope: of the cost along it.
            damped: what damping adds to the model at its end.
        """
        step = self.state.vectors["step"]
        for block in cache_blocks(self.space.owned):
            np.multiply(best.direction[block], length, out=step[block])
        curved = best.model - damped - slope  # d.B d / 2
        self.state.numbers["predicted"] = np.array([-length * slope - length**2 * curved])

    def _judge_last_step(self) -> None:
        """Change the damping by how far the last step lowers the cost of this mini-batch, which it was not made for.

        On its own mini-batch a step keeps what the model promises, however little that says of others.
        """
        predicted = float(self.state.numbers["predicted"][0])
        self.state.numbers["predicted"] = np.zeros(1)
        if self.cost_function.is_deterministic or not predicted > 0:
            return
        before = self.cost_at(self.state.vectors["step"], -1.0)
        self.set_damping(damping_factor((before - self.cost) / predicted) * self.damping)

    def _solve(self) -> tuple[list[_Candidate], float]:
        """Return the stored iterates and then the last one, if the model decreases, and the last curvature."""
        stored: list[tuple[int, _Candidate]] = []
        last, next_stored = Iterate(0, 0.0), 1
        for last in self.iterates(self.damping):
            if last.number == 0 and last.model > 0:  # the previous solution does not lower this model
                self.clear_solution()
                return self._solve()
            if last.number == next_stored and last.curvature > 0:
                kept = self.state.scratch[f"iterate_{len(stored) % STORED_ITERATES}"]
                copy_owned(self.space, self.solution, kept)
                stored.append((next_stored, _Candidate(kept, last.model)))
                next_stored = math.ceil(next_stored * ITERATE_SPACING)
        before = [candidate for number, candidate in stored[-STORED_ITERATES:] if number < last.number]
        candidates = [*before, _Candidate(self.solution, last.model)]
        return candidates if last.model < 0 else [], last.curvature

    def _best(self, candidates: list[_Candidate]) -> tuple[_Candidate, float]:
        """Return the candidate of lowest cost and its cost, going back from the last while the cost falls.

        Where the model is right at the last one, the others cost more, as the model says.
        """
        best, cost = candidates[-1], self.cost_at(candidates[-1].direction)
        if self.cost - cost >= GOOD_RATIO * -best.model:
            return best, cost
        for candidate in reversed(candidates[:-1]):
            before = self.cost_at(candidate.direction)
            if cost <= before < math.inf:
                break
            if before < cost:
                best, cost = candidate, before
        return best, cost

    def _backtrack(self, direction: Vector, slope: float, cost: float) -> float:
        """Return the step length that lowers the cost enough (Armijo 1966), or 0 if none does.

        Args:
            direction: of the search.
            slope: of the cost along the direction, at its start.
            cost: after the whole direction, length 1.
        """
        length = 1.0
        for _ in range(MAX_BACKTRACKS if slope < 0 else 0):
            if cost < self.cost and cost <= self.cost + SUFFICIENT_DECREASE * length * slope:
                return length
            length /= 2
            if -length * slope <= self.rounding:
                break
            cost = self.cost_at(direction, length)
        return 0.0


def damping_factor(ratio: float) -> float:
    """Return the factor on the damping after a step (Nielsen 1999, equation 2.5, with a bound above).

    Args:
        ratio: of the actual to the predicted decrease of the cost.
    """
    least, largest = DAMPING_FACTORS
    return min(max(1 - (2 * min(max(ratio, -1.0), 1.0) - 1) ** 3, least), largest)


class _TrustRegionStep(NewtonStep[E]):
    """A step within a radius (Nocedal and Wright 2006, Algorithm 4.1)."""

    def attempt(self) -> tuple[Vector, float, Outcome]:
        """Take the solution if it lowers the cost as predicted, and adapt the radius; see NewtonStep.attempt()."""
        self.clear_solution()
        radius, last = float(self.state.numbers["radius"][0]), Iterate(0, 0.0)
        tolerance = min(MAX_RESIDUAL, math.sqrt(self.norm))
        for last in self.iterates(radius=radius, tolerance=tolerance):  # noqa: B007
            pass
        cost = self.cost_at(self.solution) if last.model < 0 else math.inf
        ratio = (cost - self.cost) / last.model if last.model < 0 else -math.inf
        self.predicted = -last.model
        if ratio < 1 / 4:
            norm = math.sqrt(self.space.dot(self.solution, self.solution))
            radius = (norm if 0 < norm < radius else radius) / 4
        elif ratio > GOOD_RATIO and last.at_boundary:
            radius = 2 * radius
        self.state.numbers["radius"] = np.array([radius])
        return self.solution, float(ratio > SUFFICIENT_DECREASE), Outcome.LINE_SEARCH_FAILED
