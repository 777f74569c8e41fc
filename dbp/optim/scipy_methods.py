"""The methods of scipy.optimize.minimize on the cost over all ranks.

SciPy runs on rank 0, in a thread that takes turns with the training loop. It requests costs, gradients and products
with the Hessian, which all ranks compute together, and tells when an iteration is done.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic

import numpy as np

from dbp.checks import check_positive
from dbp.errors import UserError, unknown
from dbp.optim.optimizer import Optimizer, Outcome, State, Step
from dbp.optim.protocols import Curvature, E, MiniBatchCost, Vector
from dbp.optim.scipy_driver import METHODS, REFUSED, Action, Command, Driver, MinimizeOptions

NOT_DETERMINISTIC = (
    "optimizer 'scipy' needs the same cost at every evaluation: batch_size must be 'all', or the number of "
    "training examples, and no layer may draw random numbers, as dropout does; or choose an optimizer without this need"
)
INSTALL_SCIPY = "pip install scipy"


@dataclass(frozen=True)
class Scipy(Optimizer):
    """A method of scipy.optimize.minimize, one iteration a step; needs the package scipy on rank 0.

    All examples must be in one mini-batch, and no layer may draw random numbers. SciPy works in float64 on rank 0,
    whatever the type of the weights. Its internal state cannot be saved: a resumed run starts the method anew from the
    checkpoint's weights, and so does not reach the bits of an uninterrupted run, as all other optimizers do.

    Args:
        method: its name in SciPy; one that uses gradients, and the Hessian at most in products with vectors.
        options: of the method, by SciPy's names. Iterations and evaluations are unlimited unless limited here.
        tolerance: SciPy's `tol`, which each method interprets in its own way; None for its defaults.
    """

    kind: ClassVar[str] = "scipy"
    length_name: ClassVar[str] = "step_norm"
    resume_note: ClassVar[str] = (
        "SciPy's method starts again from these weights, because its internal state cannot be saved"
    )
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
        """Name the point at which SciPy evaluates, and the vector that the Hessian is multiplied with."""
        return ("point", "direction") if METHODS[self.method].uses_products else ("point",)

    def step(self, cost: MiniBatchCost[E], weights: Vector, state: State, number: int, factor: float) -> Step[E]:  # noqa: ARG002
        """Run one iteration of SciPy's method; see Optimizer.step()."""
        if not isinstance(state.running, _Minimization):
            state.running = _Minimization(self, cost, weights, state.scratch)
        with cost.space.changing:
            return state.running.iteration()


class _Minimization(Generic[E]):
    """A minimization by SciPy: a driver on rank 0, whose commands all ranks carry out.

    Args:
        method: the settings.
        cost: of the full batch.
        weights: the starting point, overwritten by each iterate.
        scratch: the method's scratch vectors, by name.
    """

    def __init__(self, method: Scipy, cost: MiniBatchCost[E], weights: Vector, scratch: Mapping[str, Vector]):
        self._cost_function, self._root, self._weights = cost, cost.root, weights
        self._point, self._direction = scratch["point"], scratch.get("direction")
        self._seen: list[E] = []  # the evaluation at the weights, then those of the step
        self._curvature: Curvature | None = None
        self._check_deterministic()
        _raise_on_all_ranks(self._root.broadcast(_import_scipy() if self._root.is_root else None))
        cost.space.fence(weights)
        start = self._root.gather_vector(weights)
        options = MinimizeOptions(method.method, method.options, method.tolerance)
        self._driver = Driver(options, start.astype(np.float64)) if self._root.is_root else None

    def iteration(self) -> Step[E]:
        """Carry out commands until SciPy's iteration is done; the weights are then its iterate."""
        evaluations = products = 0
        while True:
            command: Command = self._root.broadcast(self._driver.next_command() if self._driver else None)
            if command.action is Action.EVALUATE:
                self._evaluate()
                evaluations += 1
            elif command.action is Action.PRODUCT:
                self._multiply(command.moved)
                products += 1
            else:
                break
        _raise_on_all_ranks(command.user_error)
        if command.evaluation is None:
            self._evaluate()
            evaluations += 1
        evaluation = self._seen[-1 if command.evaluation is None else command.evaluation]
        if not command.keeps_weights:
            self._seen = [evaluation]
        if not command.keeps_weights and evaluation.finite:
            self._write_point(self._weights)
        outcome = command.outcome if evaluation.finite else Outcome.NOT_FINITE
        return Step(evaluation, outcome, evaluations, products, command.length, command.reason)

    def _write_point(self, vector: Vector) -> None:
        """Write SciPy's current point to a vector, on all ranks."""
        if self._driver:
            vector[:] = self._driver.at
        self._root.broadcast_vector(vector)

    def _evaluate(self) -> None:
        """Evaluate cost and gradient at SciPy's current point."""
        self._write_point(self._point)
        self._curvature = None
        evaluation = self._cost_function.value_and_gradient(self._point)
        gradient = self._root.gather_vector(evaluation.gradient)
        if not self._seen:
            self._check_deterministic()  # only an evaluation shows whether layers draw random numbers
        self._seen.append(evaluation)
        if self._driver:
            self._driver.evaluated(evaluation.cost, gradient, evaluation.finite)

    def _multiply(self, moved: bool) -> None:
        """Compute the Hessian times SciPy's direction; `moved` tells that the point is a new one."""
        assert self._direction is not None
        if moved:
            self._write_point(self._point)
            self._curvature = self._cost_function.curvature(self._point)
        assert self._curvature is not None
        if self._driver:
            self._direction[:] = self._driver.direction
        self._root.broadcast_vector(self._direction)
        product = self._root.gather_vector(self._curvature.hessian_product(self._direction))
        if self._driver:
            self._driver.multiplied(product)

    def _check_deterministic(self) -> None:
        """Raise UserError on all ranks unless every evaluation is of the same function."""
        _raise_on_all_ranks("" if self._root.broadcast(self._cost_function.is_deterministic) else NOT_DETERMINISTIC)

    def close(self) -> None:
        """End SciPy's thread; not collective."""
        if self._driver:
            self._driver.close()


def _raise_on_all_ranks(message: str) -> None:
    """Raise UserError with a message that is the same on all ranks, unless it is empty."""
    if message:
        error = UserError(message)
        error.on_all_ranks = True
        raise error


def _import_scipy() -> str:
    """Return why SciPy cannot be imported; an empty text if it can."""
    try:
        importlib.import_module("scipy.optimize")
    except ImportError as error:
        return f"optimizer 'scipy' needs SciPy, which cannot be imported ({error}); {INSTALL_SCIPY}"
    return ""
