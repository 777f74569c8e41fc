"""The methods of scipy.optimize.minimize on the cost over all ranks.

SciPy runs on the first rank, in a thread that takes turns with the training loop: it asks for costs, gradients and
products with the Hessian, which all ranks find together, and says when an iteration is done.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic

import numpy as np

from dbp.checks import check_positive
from dbp.errors import UserError, unknown
from dbp.optim.method import Curvature, E, Method, Objective, Outcome, State, Step, Vector
from dbp.optim.scipy_driver import METHODS, REFUSED, Asked, Lead, Order, What

LASTING = (
    "optimizer 'scipy' needs the same cost at every evaluation: batch_size must be the number of training "
    "examples, and no layer may draw random numbers, as dropout does; or take another optimizer, which has no such need"
)
HOW_TO_GET_SCIPY = "pip install 'dbp-mpi[scipy]'"


@dataclass(frozen=True)
class Scipy(Method):
    """A method of scipy.optimize.minimize, an iteration a step; needs the package scipy on the first rank.

    All examples must be in one mini-batch, and no layer may draw random numbers. SciPy works in float64, on the first
    rank alone, whatever the type of the weights. What it remembers of earlier iterations cannot be saved: a resumed
    run begins the method anew with the checkpoint's weights, and does not come to the same bits as one that was not
    interrupted; the methods of dbp itself do.

    Args:
        method: its name in SciPy; those that take a gradient, and of the Hessian no more than products.
        options: of the method, by SciPy's names. There are no limits on iterations and evaluations unless they are
            set here.
        tolerance: SciPy's `tol`, of which each method makes its own criterion; None for its defaults.
    """

    kind: ClassVar[str] = "scipy"
    length: ClassVar[str] = "step_norm"
    forgets: ClassVar[str] = "SciPy's method begins anew with these weights, as what it remembers cannot be saved"
    vectors = ()
    method: str = "L-BFGS-B"
    options: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float | None = None

    def __post_init__(self) -> None:
        if self.method in REFUSED:
            raise UserError(f"method {self.method!r} {REFUSED[self.method]}; valid: {', '.join(METHODS)}")
        if self.method not in METHODS:
            raise unknown("method", self.method, METHODS)
        for name, value in self.options.items():
            if not isinstance(value, (bool, int, float, str)):
                raise UserError(f"options.{name} must be a number, text, true or false, but is {value!r}")
        if self.tolerance is not None:
            check_positive(tolerance=self.tolerance)

    @property
    def scratch(self) -> tuple[str, ...]:
        """The point that SciPy asks about, and the vector with which the Hessian there is multiplied."""
        return ("point", "direction") if METHODS[self.method].products else ("point",)

    def step(self, objective: Objective[E], weights: Vector, state: State, number: int, factor: float) -> Step[E]:  # noqa: ARG002
        """One iteration of SciPy's method; see Method.step()."""
        if not isinstance(state.running, _Minimization):
            state.running = _Minimization(self, objective, weights, state.scratch)
        with objective.space.changing:
            return state.running.iteration()


class _Minimization(Generic[E]):
    """A method of SciPy that runs on the first rank, while all ranks do what it asks for.

    Args:
        method: of SciPy.
        objective: the cost.
        weights: to begin with, and where the iterates go.
        scratch: as the method names it.
    """

    def __init__(self, method: Scipy, objective: Objective[E], weights: Vector, scratch: Mapping[str, Vector]):
        self._objective, self._root, self._weights = objective, objective.root, weights
        self._point, self._direction = scratch["point"], scratch.get("direction")
        self._seen: list[E] = []  # the evaluation at the weights, and those of the step
        self._curvature: Curvature | None = None
        self._must_last()
        _all_raise(self._root.broadcast(_import_scipy() if self._root.is_root else None))
        objective.space.fence(weights)
        start = self._root.gather_vector(weights)
        asked = Asked(method.method, method.options, method.tolerance)
        self._lead = Lead(asked, start.astype(np.float64)) if self._root.is_root else None

    def iteration(self) -> Step[E]:
        """What SciPy asks for, until its iteration is done; then the weights are its iterate."""
        evaluations = products = 0
        while True:
            order: Order = self._root.broadcast(self._lead.order() if self._lead else None)
            if order.what is What.EVALUATE:
                self._evaluate()
                evaluations += 1
            elif order.what is What.PRODUCT:
                self._multiply(order.moved)
                products += 1
            else:
                break
        _all_raise(order.wrong)
        if order.place is None:
            self._evaluate()
            evaluations += 1
        evaluation = self._seen[-1 if order.place is None else order.place]
        if not order.keeps:
            self._seen = [evaluation]
        if not order.keeps and evaluation.finite:
            self._take(self._weights)
        outcome = order.outcome if evaluation.finite else Outcome.NOT_FINITE
        return Step(evaluation, outcome, evaluations, products, order.length, order.reason)

    def _take(self, vector: Vector) -> None:
        """The point that SciPy is at or asks about, for all."""
        if self._lead:
            vector[:] = self._lead.at
        self._root.broadcast_vector(vector)

    def _evaluate(self) -> None:
        self._take(self._point)
        self._curvature = None
        evaluation = self._objective.value_and_gradient(self._point)
        gradient = self._root.gather_vector(evaluation.gradient)
        if not self._seen:
            self._must_last()  # by now it is known whether layers draw random numbers
        self._seen.append(evaluation)
        if self._lead:
            self._lead.evaluated(evaluation.cost, gradient, evaluation.finite)

    def _multiply(self, moved: bool) -> None:
        assert self._direction is not None
        if moved:
            self._take(self._point)
            self._curvature = self._objective.curvature(self._point)
        assert self._curvature is not None
        if self._lead:
            self._direction[:] = self._lead.direction
        self._root.broadcast_vector(self._direction)
        product = self._root.gather_vector(self._curvature.hessian_product(self._direction))
        if self._lead:
            self._lead.multiplied(product)

    def _must_last(self) -> None:
        """UserError, on all ranks, unless every evaluation is of the same function."""
        _all_raise("" if self._root.broadcast(self._objective.is_deterministic) else LASTING)

    def close(self) -> None:
        """End SciPy's thread; not collective."""
        if self._lead:
            self._lead.close()


def _all_raise(wrong: str) -> None:
    """UserError if something is wrong, which all ranks know."""
    if wrong:
        error = UserError(wrong)
        error.on_all_ranks = True
        raise error


def _import_scipy() -> str:
    """What is wrong if SciPy cannot be had."""
    try:
        importlib.import_module("scipy.optimize")
    except ImportError as error:
        return f"optimizer 'scipy' needs SciPy, which cannot be imported ({error}); {HOW_TO_GET_SCIPY}"
    return ""
