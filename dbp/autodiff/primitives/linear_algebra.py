"""Functions of small square matrices, and of stacks of them: solutions, inverses, determinants, Cholesky factors.

Their derivatives are those of Giles 2008, Collected matrix derivative results for forward and reverse mode algorithmic
differentiation, and for Cholesky factors of Murray 2016, Differentiation of the Cholesky decomposition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dbp.autodiff.primitives.arithmetic import swap_last, tril
from dbp.autodiff.primitives.shapes import reshape, sum_, unbroadcast
from dbp.autodiff.tensor import Primitive, ShapeError, Value
from dbp.errors import UserError
from dbp.types import Array


def _computed(compute: Callable[[], Any], refusal: str, shape: tuple[int, ...], dtype: Any) -> Any:
    """Return what LAPACK computes; raise UserError where it cannot.

    Where NumPy is told to ignore divisions by zero the result is NaN then, as only its shape matters.

    Args:
        compute: calls NumPy.
        refusal: the message.
        shape: of the result.
        dtype: of the result.
    """
    try:
        return compute()
    except np.linalg.LinAlgError:
        if np.geterr()["divide"] == "ignore":
            return np.full(shape, np.nan, dtype)
        raise UserError(refusal) from None


def _check_square(name: str, a: Any) -> None:
    if np.ndim(a) < 2 or np.shape(a)[-1] != np.shape(a)[-2]:
        raise ShapeError(f"{name} of shape {np.shape(a)}: the last two axes must be those of square matrices")


SINGULAR = "the matrix must not be singular, but is; add a small multiple of the identity to it: a + 1e-6 * np.eye(n)"
NOT_POSITIVE = (
    "the matrix must be symmetric and positive definite, but is not; add a small multiple of the identity to it: "
    "a + 1e-6 * np.eye(n)"
)


def _result_type(*xs: Any) -> Any:
    return np.result_type(*xs, np.float32)  # integers become float64


def _solve(a: Array, b: Array) -> Any:
    _check_square("solve", a)
    count = np.shape(a)[-1]
    if np.ndim(b) < 2 or np.shape(b)[-2] != count:
        raise ShapeError(f"solve of shapes {np.shape(a)} and {np.shape(b)}: the right side must have {count} rows")
    shape = (*np.broadcast_shapes(np.shape(a)[:-2], np.shape(b)[:-2]), *np.shape(b)[-2:])
    return _computed(lambda: np.linalg.solve(a, b), f"solve: {SINGULAR}", shape, _result_type(a, b))


_of_matrices: Primitive = Primitive(  # x with a x = b, for matrices b
    "solve",
    _solve,
    reverse=[
        lambda g, y, a, b: unbroadcast(-_of_matrices(swap_last(a), g) @ swap_last(y), a),
        lambda g, y, a, b: unbroadcast(_of_matrices(swap_last(a), g), b),
    ],
    forward=[
        lambda t, y, a, b: -_of_matrices(a, t @ y),
        lambda t, y, a, b: _of_matrices(a, t),
    ],
)


def solve(a: Value, b: Value) -> Value:
    """Return x with a x = b.

    Args:
        a: square matrices (..., n, n).
        b: a vector (n,), or matrices (..., n, columns).

    Raises:
        UserError: a matrix is singular.
    """
    if np.ndim(b) != 1:
        return _of_matrices(a, b)
    found = _of_matrices(a, reshape(b, shape=(-1, 1)))
    return reshape(found, shape=np.shape(found)[:-1])


def _inv(a: Array) -> Any:
    _check_square("inv", a)
    return _computed(lambda: np.linalg.inv(a), f"inv: {SINGULAR}", np.shape(a), _result_type(a))


inv: Primitive = Primitive(  # the inverse of square matrices (..., n, n)
    "inv",
    _inv,
    reverse=[lambda g, y, a: -(swap_last(y) @ g @ swap_last(y))],
    forward=[lambda t, y, a: -(y @ t @ y)],
)


def _det(a: Array) -> Any:
    _check_square("det", a)
    return np.linalg.det(a)


def _times_matrices(x: Value, matrices: Value) -> Value:
    """Multiply each of the matrices (..., n, n) by its number in x (...)."""
    return reshape(x, shape=(*np.shape(x), 1, 1)) * matrices


det: Primitive = Primitive(  # of square matrices (..., n, n); for a derivative they must not be singular
    "det",
    _det,
    reverse=[lambda g, y, a: _times_matrices(g * y, swap_last(inv(a)))],
    forward=[lambda t, y, a: y * sum_(swap_last(inv(a)) * t, axis=(-2, -1))],
)


def _cholesky(a: Array) -> Any:
    _check_square("cholesky", a)
    return _computed(lambda: np.linalg.cholesky(a), f"cholesky: {NOT_POSITIVE}", np.shape(a), _result_type(a))


def _lower_half(x: Value) -> Value:
    """Return the lower triangle with half of the diagonal: Phi in Murray 2016."""
    return tril(x) * (1 - 0.5 * np.eye(np.shape(x)[-1], dtype=np.float32))


def _symmetric(x: Value) -> Value:
    return 0.5 * (x + swap_last(x))


def _pull_cholesky(g: Value, y: Value) -> Value:
    middle = _lower_half(swap_last(y) @ tril(g))
    outer = _of_matrices(swap_last(y), swap_last(_of_matrices(swap_last(y), swap_last(middle))))  # y^-T middle y^-1
    return _symmetric(outer)


def _push_cholesky(t: Value, y: Value) -> Value:
    half_way = _of_matrices(y, _symmetric(t))
    return y @ _lower_half(swap_last(_of_matrices(y, swap_last(half_way))))


cholesky: Primitive = Primitive(  # the lower factor of symmetric positive definite matrices (..., n, n)
    "cholesky",
    _cholesky,
    reverse=[lambda g, y, a: _pull_cholesky(g, y)],
    forward=[lambda t, y, a: _push_cholesky(t, y)],
)
