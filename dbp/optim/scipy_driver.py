"""The driver of SciPy's minimize() on rank 0: it turns SciPy's callbacks into commands that all ranks carry out."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

import numpy as np

from dbp.optim.callback_thread import Ask, CallbackThread, Raised, Returned
from dbp.optim.optimizer import Outcome
from dbp.optim.protocols import Vector

NO_LIMIT = 2**31 - 1  # iterations: the largest limit that all of SciPy's methods accept; `epochs` limits a run


@dataclass(frozen=True)
class MethodTraits:
    """The traits of one of SciPy's methods.

    Args:
        limit_status: the result's status at a limit on iterations or evaluations.
        line_search_status: the result's status when its line search fails; None if it has no line search.
        limit_options: the options that set such limits.
        uses_products: whether it calls for products with the Hessian.
    """

    limit_status: int = 1
    line_search_status: int | None = 2
    limit_options: tuple[str, ...] = ("maxiter",)
    uses_products: bool = False


METHODS = {
    "BFGS": MethodTraits(),
    "CG": MethodTraits(),
    "L-BFGS-B": MethodTraits(limit_options=("maxiter", "maxfun")),
    "Newton-CG": MethodTraits(uses_products=True),
    "SLSQP": MethodTraits(limit_status=9, line_search_status=8),
    "TNC": MethodTraits(limit_status=3, line_search_status=4, limit_options=("maxfun",)),
    "trust-constr": MethodTraits(limit_status=0, line_search_status=None, uses_products=True),
    "trust-krylov": MethodTraits(line_search_status=None, uses_products=True),
    "trust-ncg": MethodTraits(line_search_status=None, uses_products=True),
}
REFUSED = {
    **dict.fromkeys(("Nelder-Mead", "Powell", "COBYLA", "COBYQA"), "does not use gradients"),
    **dict.fromkeys(("dogleg", "trust-exact"), "needs the whole Hessian, but only products with it are computed"),
}


# --- SciPy's callbacks, in its thread ---------------------------------------------------------------


@dataclass(frozen=True)
class _Evaluate:
    """A request for cost and gradient."""

    at: Vector


@dataclass(frozen=True)
class _Product:
    """A request for the Hessian times a direction."""

    at: Vector
    direction: Vector


@dataclass(frozen=True)
class _Iterate:
    """The notice that an iteration is done."""

    at: Vector


@dataclass(frozen=True)
class MinimizeOptions:
    """The arguments of SciPy's minimize(): the method's name, its options and its tolerance."""

    name: str
    options: Mapping[str, Any]
    tolerance: float | None

    @property
    def traits(self) -> MethodTraits:
        """Return the traits of the method."""
        return METHODS[self.name]


def _minimize(method: MinimizeOptions, start: Vector, ask: Ask) -> Any:
    """Run SciPy's minimize(), with every callback a request, and return its result."""
    from scipy.optimize import minimize

    def after_iteration(x: Vector, *_: Any) -> None:
        ask(_Iterate(np.array(x)))

    return minimize(
        lambda x: ask(_Evaluate(np.array(x))),
        start,
        jac=True,
        hessp=(lambda x, p: ask(_Product(np.array(x), np.array(p)))) if method.traits.uses_products else None,
        method=method.name,
        tol=method.tolerance,
        options=dict.fromkeys(method.traits.limit_options, NO_LIMIT) | dict(method.options),
        callback=after_iteration,
    )


def _one_thread() -> Any:
    """Limit the BLAS bundled with SciPy, if there is one, to one thread, because the number of threads changes bits.

    Returns:
        A limiter whose restore_original_limits() undoes this.
    """
    from threadpoolctl import ThreadpoolController

    libraries = ThreadpoolController()
    paths = [library.filepath for library in libraries.lib_controllers if library.user_api == "blas"]
    own = [path for path in paths if any(part.split(".")[0] == "scipy" for part in Path(path).parts[:-1])]
    return libraries.select(filepath=own).limit(limits=1)


# --- commands from rank 0 to all ranks --------------------------------------------------------------


class Action(Enum):
    """The action of all ranks."""

    EVALUATE = auto()
    PRODUCT = auto()
    END = auto()


@dataclass(frozen=True)
class Command:
    """A command to all ranks.

    Args:
        action: evaluate cost and gradient, compute a product with the Hessian, or end the step.
        moved: whether the product is at another point than the last product.
        evaluation: the index, among the step's evaluations, of the one at the new weights, by default the last;
            None to evaluate them first.
        keeps_weights: whether the weights stay as they are.
        outcome: of the step.
        reason: for the outcome, to be shown to users.
        length: the norm of the step.
        user_error: the message of a UserError to raise, if not empty.
    """

    action: Action
    moved: bool = False
    evaluation: int | None = -1
    keeps_weights: bool = False
    outcome: Outcome = Outcome.CONTINUES
    reason: str = ""
    length: float = 0.0
    user_error: str = ""


class Driver:
    """The driver of SciPy's method, on rank 0 only: it runs SciPy from request to request.

    Args:
        method: the arguments of minimize().
        start: the initial weights, float64.
    """

    def __init__(self, method: MinimizeOptions, start: Vector):
        self._method, self.at, self.direction = method, start, start
        self._iterate, self._iterations = start, 0
        self._blas_limit = _one_thread()  # set in this thread: some BLAS libraries keep such settings per thread
        self._thread = CallbackThread(lambda ask: _minimize(method, start, ask))
        self._answer: Any = None
        self._pending: Any = None  # a request that came when the previous step was ended
        # The digest of each point evaluated from the last iterate on, and whether its cost was finite.
        self._seen: list[tuple[bytes, bool]] = []
        self._products_at, self._has_started, self._failure = b"", False, ""

    def next_command(self) -> Command:
        """Return what all ranks do next."""
        if self._failure:
            return self._end_not_finite(self._failure)
        request, self._pending = self._pending or self._next(), None
        if isinstance(request, _Evaluate):
            return self._evaluate(request)
        if isinstance(request, _Product):
            moved, self._products_at = _digest(request.at) != self._products_at, _digest(request.at)
            self.at, self.direction = request.at, request.direction
            return Command(Action.PRODUCT, moved)
        if isinstance(request, _Iterate):
            self._pending = self._next()
            if not isinstance(self._pending, Returned):
                return self._end(request.at)
            request = self._pending
        if isinstance(request, Raised):
            return self._raised(request.error)
        return self._returned(request.value)

    def _next(self) -> Any:
        if self._has_started:
            return self._thread.send(self._answer)
        from scipy.optimize import OptimizeWarning

        self._has_started = True
        with warnings.catch_warnings():  # the filter is global, but this thread waits meanwhile
            warnings.simplefilter("error", OptimizeWarning)  # SciPy only warns of unknown options
            return self._thread.send()

    def _evaluate(self, request: _Evaluate) -> Command:
        if not np.isfinite(request.at).all():
            return self._end_not_finite("it asks for the cost at weights that are not finite")
        self.at, self._products_at = request.at, b""
        return Command(Action.EVALUATE)

    def evaluated(self, cost: float, gradient: Vector, finite: bool) -> None:
        """Take the answer to an evaluation; a cost that is not finite counts as infinity, which SciPy may avoid."""
        self._seen.append((_digest(self.at), finite))
        self._answer = (cost if finite else float("inf")), np.array(gradient, np.float64)
        if not finite and len(self._seen) == 1:
            self._failure = "begin with other weights"

    def multiplied(self, product: Vector) -> None:
        """Take the answer to a product with the Hessian."""
        self._answer = np.array(product, np.float64)
        if not np.isfinite(self._answer).all():
            self._failure = "a product with the Hessian is not finite"

    def _end_not_finite(self, why: str) -> Command:
        """Return the command that ends the step because something is not finite."""
        reason = f"SciPy's {self._method.name} cannot continue: {why}"
        return Command(Action.END, keeps_weights=True, outcome=Outcome.NOT_FINITE, reason=reason)

    def _end(self, at: Vector, outcome: Outcome = Outcome.CONTINUES, reason: str = "") -> Command:
        """Return the command that ends the step at this point."""
        digests = [digest for digest, _ in self._seen]
        index = digests.index(_digest(at)) if _digest(at) in digests else None
        if index is not None and not self._seen[index][1]:
            return self._end_not_finite("the cost at its iterate is not finite")
        length = float(np.linalg.norm(at - self._iterate))
        self.at = self._iterate = at
        self._iterations += 1
        self._seen = [] if index is None else [(_digest(at), True)]
        return Command(Action.END, evaluation=index, outcome=outcome, reason=reason, length=length)

    def _returned(self, result: Any) -> Command:
        """Return the command for the result of minimize()."""
        traits, reason = self._method.traits, f"SciPy's {self._method.name}: {result.message}".rstrip(". ")
        if result.success:
            return self._end(result.x, Outcome.CONVERGED, reason)
        if not self._seen[-1][1]:
            return self._end_not_finite(reason)
        if result.status == traits.limit_status:
            return self._end(result.x, Outcome.OUT_OF_EVALUATIONS, reason)
        failed = Outcome.LINE_SEARCH_FAILED if result.status == traits.line_search_status else Outcome.FAILED
        return self._end(result.x, failed, reason)

    def _raised(self, error: BaseException) -> Command:
        """Return the command for an exception: wrong options are the user's mistake, all else is raised."""
        if self._iterations or not isinstance(error, (TypeError, ValueError, Warning)):
            raise error
        method = self._method.name
        how = (
            f"""python -c "import scipy.optimize as o; o.show_options('minimize', '{method}')" prints the valid ones"""
        )
        return Command(Action.END, user_error=f"optimizer.options are not those of SciPy's {method}: {error}; {how}")

    def close(self) -> None:
        """End SciPy's thread."""
        self._thread.close()
        self._blas_limit.restore_original_limits()


def _digest(vector: Vector) -> bytes:
    """Return a digest by which a vector is recognized."""
    return hashlib.blake2b(vector.data, digest_size=16).digest()
