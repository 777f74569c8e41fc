"""SciPy's side of a minimization, on the first rank alone: its methods, what they ask, and what all ranks do then."""

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
from dbp.optim.method import Outcome, Vector

NO_LIMIT = 2**31 - 1  # the largest number that all of SciPy's methods take; how long a run lasts is said by its epochs


@dataclass(frozen=True)
class Kind:
    """What there is to know about a method of SciPy.

    Args:
        limit: the status with which it ends at a limit on iterations or evaluations.
        line_search: the status with which it ends where its line search fails.
        limits: the options that set such limits.
        products: whether it asks for products with the Hessian.
    """

    limit: int = 1
    line_search: int | None = 2
    limits: tuple[str, ...] = ("maxiter",)
    products: bool = False


METHODS = {
    "BFGS": Kind(),
    "CG": Kind(),
    "L-BFGS-B": Kind(limits=("maxiter", "maxfun")),
    "Newton-CG": Kind(products=True),
    "SLSQP": Kind(limit=9, line_search=8),
    "TNC": Kind(limit=3, line_search=4, limits=("maxfun",)),
    "trust-constr": Kind(limit=0, line_search=None, products=True),
    "trust-krylov": Kind(line_search=None, products=True),
    "trust-ncg": Kind(line_search=None, products=True),
}
REFUSED = {
    **dict.fromkeys(("Nelder-Mead", "Powell", "COBYLA", "COBYQA"), "makes no use of gradients"),
    **dict.fromkeys(("dogleg", "trust-exact"), "needs the Hessian as a whole, of which only products are formed"),
}


# --- what SciPy asks, in its thread -----------------------------------------------------------------


@dataclass(frozen=True)
class _Evaluate:
    """Cost and gradient."""

    at: Vector


@dataclass(frozen=True)
class _Product:
    """The Hessian times a direction."""

    at: Vector
    direction: Vector


@dataclass(frozen=True)
class _Iterate:
    """An iteration is done."""

    at: Vector


@dataclass(frozen=True)
class Asked:
    """A method of SciPy, its options, and its tolerance."""

    name: str
    options: Mapping[str, Any]
    tolerance: float | None

    @property
    def kind(self) -> Kind:
        """What there is to know about the method."""
        return METHODS[self.name]


def _minimize(method: Asked, start: Vector, ask: Ask) -> Any:
    """SciPy's minimize(), which asks for all that it needs."""
    from scipy.optimize import minimize

    def after_iteration(x: Vector, *_: Any) -> None:
        ask(_Iterate(np.array(x)))

    return minimize(
        lambda x: ask(_Evaluate(np.array(x))),
        start,
        jac=True,
        hessp=(lambda x, p: ask(_Product(np.array(x), np.array(p)))) if method.kind.products else None,
        method=method.name,
        tol=method.tolerance,
        options=dict.fromkeys(method.kind.limits, NO_LIMIT) | dict(method.options),
        callback=after_iteration,
    )


def _one_thread() -> Any:
    """Have SciPy's own BLAS, if it has one, take one thread, as their number would change the bits; can be undone."""
    from threadpoolctl import ThreadpoolController

    libraries = ThreadpoolController()
    paths = [library.filepath for library in libraries.lib_controllers if library.user_api == "blas"]
    own = [path for path in paths if any(part.split(".")[0] == "scipy" for part in Path(path).parts[:-1])]
    return libraries.select(filepath=own).limit(limits=1)


# --- what the first rank tells all ranks to do ------------------------------------------------------


class What(Enum):
    """What all ranks do."""

    EVALUATE = auto()
    PRODUCT = auto()
    END = auto()


@dataclass(frozen=True)
class Order:
    """What to do next.

    Args:
        what: the cost and its gradient, a product with the Hessian, or the end of the step.
        moved: whether the product is at another point than the last one.
        place: where in the step's evaluations the one is from which its figures are taken; None to evaluate there.
        keeps: whether the weights stay as they are.
        wrong: a mistake of the user's.
    """

    what: What
    moved: bool = False
    place: int | None = -1
    keeps: bool = False
    outcome: Outcome = Outcome.GOES_ON
    reason: str = ""
    length: float = 0.0
    wrong: str = ""


class Lead:
    """What the first rank alone does: it makes SciPy go on, and orders of what it asks.

    Args:
        method: of SciPy.
        start: the weights to begin with, float64.
    """

    def __init__(self, method: Asked, start: Vector):
        self._method, self.at, self.direction = method, start, start
        self._iterate, self._iterations = start, 0
        self._threads = _one_thread()  # not by SciPy's thread: such settings may be those of the thread that makes them
        self._aside = CallbackThread(lambda ask: _minimize(method, start, ask))
        self._answer: Any = None
        self._waiting: Any = None  # a question that was asked while the step before ended
        self._seen: list[tuple[bytes, bool]] = []  # the iterate, and what was evaluated after it: where, and if finite
        self._products_at, self._begun, self._bad = b"", False, ""

    def order(self) -> Order:
        """What all are to do next."""
        if self._bad:
            return self._no_number(self._bad)
        question, self._waiting = self._waiting or self._next(), None
        if isinstance(question, _Evaluate):
            return self._evaluate(question)
        if isinstance(question, _Product):
            moved, self._products_at = _mark(question.at) != self._products_at, _mark(question.at)
            self.at, self.direction = question.at, question.direction
            return Order(What.PRODUCT, moved)
        if isinstance(question, _Iterate):
            self._waiting = self._next()
            if not isinstance(self._waiting, Returned):
                return self._end(question.at)
            question = self._waiting
        if isinstance(question, Raised):
            return self._raised(question.error)
        return self._returned(question.value)

    def _next(self) -> Any:
        if self._begun:
            return self._aside.next(self._answer)
        from scipy.optimize import OptimizeWarning

        self._begun = True
        with warnings.catch_warnings():  # this thread waits while they are errors, so no other one sees it
            warnings.simplefilter("error", OptimizeWarning)  # of options that do not exist SciPy only warns
            return self._aside.next()

    def _evaluate(self, question: _Evaluate) -> Order:
        if not np.isfinite(question.at).all():
            return self._no_number("it asks for the cost of weights that are no numbers")
        self.at, self._products_at = question.at, b""
        return Order(What.EVALUATE)

    def evaluated(self, cost: float, gradient: Vector, finite: bool) -> None:
        """Answer; a cost that is no number is worse than any other, and SciPy may find a way around it."""
        self._seen.append((_mark(self.at), finite))
        self._answer = (cost if finite else float("inf")), np.array(gradient, np.float64)
        if not finite and len(self._seen) == 1:
            self._bad = "begin with other weights"

    def multiplied(self, product: Vector) -> None:
        """Answer."""
        self._answer = np.array(product, np.float64)
        if not np.isfinite(self._answer).all():
            self._bad = "a product with the Hessian is not finite"

    def _no_number(self, why: str) -> Order:
        reason = f"SciPy's {self._method.name} cannot go on: {why}"
        return Order(What.END, keeps=True, outcome=Outcome.NOT_FINITE, reason=reason)

    def _end(self, at: Vector, outcome: Outcome = Outcome.GOES_ON, reason: str = "") -> Order:
        """The step leads to this point."""
        marks = [mark for mark, _ in self._seen]
        place = marks.index(_mark(at)) if _mark(at) in marks else None
        if place is not None and not self._seen[place][1]:
            return self._no_number("its iterate has no cost")
        length = float(np.linalg.norm(at - self._iterate))
        self.at = self._iterate = at
        self._iterations += 1
        self._seen = [] if place is None else [(_mark(at), True)]
        return Order(What.END, place=place, outcome=outcome, reason=reason, length=length)

    def _returned(self, result: Any) -> Order:
        kind, reason = self._method.kind, f"SciPy's {self._method.name}: {result.message}".rstrip(". ")
        if result.success:
            return self._end(result.x, Outcome.CONVERGED, reason)
        if not self._seen[-1][1]:
            return self._no_number(reason)
        if result.status == kind.limit:
            return self._end(result.x, Outcome.OUT_OF_EVALUATIONS, reason)
        failed = Outcome.LINE_SEARCH_FAILED if result.status == kind.line_search else Outcome.FAILED
        return self._end(result.x, failed, reason)

    def _raised(self, error: BaseException) -> Order:
        if self._iterations or not isinstance(error, (TypeError, ValueError, Warning)):
            raise error
        method = self._method.name
        how = (
            f"""python -c "import scipy.optimize as o; o.show_options('minimize', '{method}')" prints the valid ones"""
        )
        return Order(What.END, wrong=f"optimizer.options are not those of SciPy's {method}: {error}; {how}")

    def close(self) -> None:
        """End SciPy's thread."""
        self._aside.close()
        self._threads.restore_original_limits()


def _mark(vector: Vector) -> bytes:
    """By which a vector is known again."""
    return hashlib.blake2b(vector.data, digest_size=16).digest()
