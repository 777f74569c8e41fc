"""Truncated Newton methods: a step minimizes a quadratic model of the cost, as far as conjugate gradients get.

With the Gauss-Newton matrix and damping it is the Hessian-free method of Martens 2010; with a trust region that of
Steihaug 1983.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Generic

import numpy as np
from numpy.typing import NDArray

from dbp.checks import check_at_least, check_fraction, check_not_negative, check_positive
from dbp.errors import UserError, unknown
from dbp.optim.conjugate_gradients import Iterate, Work, conjugate_gradients
from dbp.optim.method import E, Method, Objective, Outcome, State, Step, Vector, cache_blocks, copy, follow

STORED = 5  # iterates besides the last, to go back to
SPACING = 1.5  # between their numbers
LEAST_ITERATIONS = 10  # over which progress is judged
LEAST_DAMPING = 1e-15
ATTEMPTS = 10  # in one step, each more careful than the one before
BACKTRACKS = 20  # of a line search, each to half the length
SUFFICIENT = 1e-4  # part of the decrease that a slope promises or a model predicts
CURVATURES, CONTROLS = ("gauss_newton", "hessian"), ("damping", "trust_region")


@dataclass(frozen=True)
class Newton(Method):
    """Steps d along which a model of the cost falls: f + g d + d B d / 2, minimized by conjugate gradients.

    Control "damping" adds damping |d|^2 / 2 to the model, more if it has promised too much (Levenberg-Marquardt;
    Martens 2010, section 4). Of the iterates the one of the lowest cost is taken, then shortened until the cost falls
    enough. Control "trust_region" keeps |d| within a radius (Algorithm 4.1, Nocedal and Wright 2006).

    Args:
        curvature: B: "gauss_newton", which is never negative, or "hessian".
        control: "damping" or "trust_region".
        damping: with which to begin.
        radius: with which to begin.
        iterations: of conjugate gradients in one step, at most.
        tolerance: they end when an iteration improves the model by less than this part, on the average of the last
            ones.
        part: of the mini-batch for B; cost and gradient are always those of all of it.
        precondition: exponent of the preconditioner (squared gradients + damping)^precondition; 0 for none. With
            damping only.
        probes: random gradients for that.
        decay: of a step's solution, with which the next begins; 0 to begin with nothing. With damping only.
        gradient_tolerance: the norm of the gradient at which it has converged.
    """

    kind: ClassVar[str] = "newton"
    curvature: str = "gauss_newton"
    control: str = "damping"
    damping: float = 1.0
    radius: float = 1.0
    iterations: int = 250
    tolerance: float = 5e-4
    part: float = 1.0
    precondition: float = 0.75
    probes: int = 1
    decay: float = 0.95
    gradient_tolerance: float = 1e-7

    def __post_init__(self) -> None:
        for name, valid in (("curvature", CURVATURES), ("control", CONTROLS)):
            if getattr(self, name) not in valid:
                raise unknown(name, getattr(self, name), valid)
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
    def _preconditioned(self) -> bool:
        return self._damped and self.precondition > 0

    @property
    def vectors(self) -> tuple[str, ...]:
        """The last solution, if the next one begins with it."""
        return ("solution",) if self._damped and self.decay else ()

    @property
    def scratch(self) -> tuple[str, ...]:
        """What conjugate gradients and trials of a step need."""
        names = ["gradient", "residual", "search", "trial"]
        names += ["solution"] * (not self.vectors)
        names += ["scaled", "inverse"] * self._preconditioned
        names += [f"iterate_{i}" for i in range(STORED)] * self._damped
        return tuple(names)

    def numbers(self) -> dict[str, NDArray[Any]]:
        """The damping, or the radius."""
        return {"damping": np.array([self.damping])} if self._damped else {"radius": np.array([self.radius])}

    def step(self, objective: Objective[E], weights: Vector, state: State, number: int, factor: float) -> Step[E]:  # noqa: ARG002
        """One gradient, one minimum of a model, and the costs that tell how far to follow it; see Method.step()."""
        evaluation = objective.value_and_gradient(weights)
        if not evaluation.finite:
            return Step(evaluation, Outcome.NOT_FINITE, reason="begin with other weights")
        with objective.space.changing:
            return (_Damped if self._damped else _Within)(self, objective, weights, state, evaluation).run()


@dataclass(frozen=True)
class _Candidate:
    """A direction, and what the model says of it."""

    direction: Vector
    model: float


class _Iteration(Generic[E]):
    """One step: what is known at its start, and what is tried."""

    def __init__(self, method: Newton, objective: Objective[E], weights: Vector, state: State, evaluation: E):
        self.method, self.objective, self.weights, self.state = method, objective, weights, state
        self.space, self.evaluation, self.cost = objective.space, evaluation, evaluation.cost
        self.evaluations, self.products = 1, 0
        self.gradient = state.scratch["gradient"]  # kept, as products go where the objective has put it
        copy(self.space, evaluation.gradient, self.gradient)
        self.norm = math.sqrt(self.space.dot(self.gradient, self.gradient))
        self.solution = (state.vectors if method.vectors else state.scratch)["solution"]

    def run(self) -> Step[E]:
        """Tries until one lowers the cost."""
        if self.objective.is_deterministic and self.norm <= self.method.gradient_tolerance:
            return self._end(Outcome.CONVERGED)
        self.curvature = self.objective.curvature(self.weights, self.method.part)
        self.prepare()
        outcome = Outcome.LINE_SEARCH_FAILED
        for _ in range(ATTEMPTS):
            direction, length, outcome = self.attempt()
            if length:
                for block in cache_blocks(self.space.owned):
                    self.weights[block] += length * direction[block]
                return self._end(Outcome.GOES_ON, length)
        return self._end(outcome if self.objective.is_deterministic else Outcome.GOES_ON)

    def prepare(self) -> None:
        """Once before all attempts."""

    def attempt(self) -> tuple[Vector, float, Outcome]:
        """A direction and how far to follow it; not at all if the cost does not fall, then also why."""
        raise NotImplementedError

    def _end(self, outcome: Outcome, length: float = 0.0) -> Step[E]:
        reasons = {
            Outcome.GOES_ON: "",
            Outcome.CONVERGED: f"the gradient's norm is {self.norm:.3g}",
            Outcome.LINE_SEARCH_FAILED: f"no step lowers the cost by more than rounding; the gradient's norm is "
            f"{self.norm:.3g}",
            Outcome.NEGATIVE_CURVATURE: f'try control "trust_region"; the gradient\'s norm is {self.norm:.3g}',
        }
        return Step(self.evaluation, outcome, self.evaluations, self.products, length, reasons[outcome])

    def product(self, vector: Vector) -> Vector:
        """B times a vector."""
        self.products += 1
        if self.method.curvature == "hessian":
            return self.curvature.hessian_product(vector)
        return self.curvature.gauss_newton_product(vector)

    def cost_at(self, direction: Vector, length: float = 1.0) -> float:
        """The cost so far along a direction; infinite where it is no number."""
        trial = self.state.scratch["trial"]
        follow(self.space, direction, length, self.weights, trial)
        self.evaluations += 1
        cost = self.objective.value(trial)
        return cost if math.isfinite(cost) else math.inf

    def stalls(self, models: list[float]) -> bool:
        """Whether the model's values, one an iteration, no longer fall fast enough (Martens 2010, section 4.4)."""
        now, back = len(models) - 1, max(LEAST_ITERATIONS, (len(models) - 1) // 10)
        enough = self.method.tolerance * back
        return now > back and models[now] < 0 and models[now] - models[now - back] > enough * models[now]

    def iterates(self, damping: float = 0.0, radius: float = math.inf) -> Iterator[Iterate]:
        """Conjugate gradients, which move the solution, until they have done enough."""
        scratch, models = self.state.scratch, list[float]()
        residual = scratch["residual"]
        work = Work(residual, scratch["search"], scratch.get("scaled", residual), scratch.get("inverse"))
        for iterate in conjugate_gradients(
            self.space, self.product, self.gradient, self.solution, work, damping, radius
        ):
            yield iterate
            models.append(iterate.model)
            if iterate.number == self.method.iterations or self.stalls(models):
                return

    def clear(self) -> None:
        """Let the next solution begin with zero."""
        for part in self.space.owned:
            self.solution[part] = 0


class _Damped(_Iteration[E]):
    """Steps with damping."""

    def prepare(self) -> None:
        """The beginning of the solution, and the preconditioner (Martens 2010, section 4.7)."""
        if "solution" not in self.state.vectors:
            self.clear()
        for part in self.space.owned:
            self.solution[part] *= self.method.decay
        if "inverse" in self.state.scratch:
            inverse, squares = self.state.scratch["inverse"], self.curvature.squared_gradients(self.method.probes)
            self.products += self.method.probes
            for block in cache_blocks(self.space.owned):
                inverse[block] = (squares[block] + self.damping) ** -self.method.precondition

    @property
    def damping(self) -> float:
        """As it is now."""
        return float(self.state.numbers["damping"][0])

    def damp(self, damping: float) -> None:
        """Change it."""
        self.state.numbers["damping"] = np.array([max(damping, LEAST_DAMPING)])

    def attempt(self) -> tuple[Vector, float, Outcome]:
        """Follow the best iterate as far as the cost falls enough; see _Iteration.attempt()."""
        damping, (candidates, curvature) = self.damping, self._solve()
        if not candidates:
            self.clear()
            self.damp(max(4 * damping, damping - 2 * curvature) if math.isfinite(curvature) else 4 * damping)
            return self.solution, 0.0, Outcome.NEGATIVE_CURVATURE
        best, cost = self._best(candidates)
        slope, square = self.space.dots([best.direction], [self.gradient, best.direction])[0].tolist()
        ratio = (cost - self.cost) / (best.model - damping * square / 2)
        if ratio < 1 / 4 or not curvature > 0:
            self.damp(3 / 2 * damping)
        elif ratio > 3 / 4:
            self.damp(2 / 3 * damping)
        length = self._shorten(best.direction, slope, cost)
        if not length:
            self.clear()
            self.damp(4 * damping)
        return best.direction, length, Outcome.LINE_SEARCH_FAILED

    def _solve(self) -> tuple[list[_Candidate], float]:
        """Iterates along which the model falls, the last one last; and the curvature found at the end."""
        stored: list[tuple[int, _Candidate]] = []
        last, due = Iterate(0, 0.0), 1
        for last in self.iterates(self.damping):
            if last.number == 0 and last.model > 0:  # the solution before leads to nothing here
                self.clear()
                return self._solve()
            if last.number == due and last.curvature > 0:
                place = self.state.scratch[f"iterate_{len(stored) % STORED}"]
                copy(self.space, self.solution, place)
                stored.append((due, _Candidate(place, last.model)))
                due = math.ceil(due * SPACING)
        before = [candidate for number, candidate in stored[-STORED:] if number < last.number]
        candidates = [*before, _Candidate(self.solution, last.model)]
        return candidates if last.model < 0 else [], last.curvature

    def _best(self, candidates: list[_Candidate]) -> tuple[_Candidate, float]:
        """The one of the lowest cost, going back from the last for as long as the cost falls."""
        best, cost = candidates[-1], self.cost_at(candidates[-1].direction)
        for candidate in reversed(candidates[:-1]):
            before = self.cost_at(candidate.direction)
            if cost <= before < math.inf:
                break
            if before < cost:
                best, cost = candidate, before
        return best, cost

    def _shorten(self, direction: Vector, slope: float, cost: float) -> float:
        """The part of a direction that lowers the cost enough (Armijo 1966), or 0; given the cost of all of it."""
        length = 1.0
        for _ in range(BACKTRACKS if slope < 0 else 0):
            if cost < self.cost and cost <= self.cost + SUFFICIENT * length * slope:
                return length
            length /= 2
            cost = self.cost_at(direction, length)
        return 0.0


class _Within(_Iteration[E]):
    """Steps within a radius (Algorithm 4.1, Nocedal and Wright 2006)."""

    def attempt(self) -> tuple[Vector, float, Outcome]:
        """The whole solution, if the cost falls by enough of what the model says; see _Iteration.attempt()."""
        self.clear()
        radius, last = float(self.state.numbers["radius"][0]), Iterate(0, 0.0)
        for last in self.iterates(radius=radius):  # noqa: B007
            pass
        cost = self.cost_at(self.solution) if last.model < 0 else math.inf
        ratio = (cost - self.cost) / last.model if last.model < 0 else -math.inf
        if ratio < 1 / 4:
            norm = math.sqrt(self.space.dot(self.solution, self.solution))
            radius = (norm if 0 < norm < radius else radius) / 4
        elif ratio > 3 / 4 and last.at_boundary:
            radius = 2 * radius
        self.state.numbers["radius"] = np.array([radius])
        return self.solution, float(ratio > SUFFICIENT), Outcome.LINE_SEARCH_FAILED
