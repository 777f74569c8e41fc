"""Functions of NumPy on recorded arrays, so that what was written for NumPy can be differentiated as it is.

Each stands for a primitive, or is composed of some. Functions without a derivative, such as argmax, return plain
arrays.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from dbp.autodiff import primitives as p
from dbp.autodiff.primitives.shapes import Axes, along
from dbp.autodiff.tensor import NUMPY_FUNCTIONS, Tensor, Value, array_of, name_of_numpy

UFUNCS: dict[np.ufunc, Callable[..., Value]] = {
    np.absolute: p.abs_,
    np.fabs: p.abs_,
    np.positive: p.identity,
    np.negative: p.negative,
    np.sign: p.sign,
    np.reciprocal: lambda x: 1 / x,
    np.log2: lambda x: p.log(x) / math.log(2),
    np.log10: lambda x: p.log(x) / math.log(10),
    np.exp2: lambda x: p.exp(x * math.log(2)),
    np.hypot: lambda a, b: p.sqrt(p.square(a) + p.square(b)),
    np.logaddexp: lambda a, b: b + p.softplus(a - b),
    np.add: p.add,
    np.subtract: p.subtract,
    np.multiply: p.multiply,
    np.divide: p.divide,
    np.power: p.power,
    np.float_power: p.power,
    np.matmul: p.matmul,
    np.maximum: p.maximum,
    np.minimum: p.minimum,
    np.exp: p.exp,
    np.expm1: p.expm1,
    np.log: p.log,
    np.log1p: p.log1p,
    np.sqrt: p.sqrt,
    np.square: p.square,
    np.sin: p.sin,
    np.cos: p.cos,
    np.tan: p.tan,
    np.arcsin: p.arcsin,
    np.arccos: p.arccos,
    np.arctan: p.arctan,
    np.arctan2: p.arctan2,
    np.sinh: p.sinh,
    np.cosh: p.cosh,
    np.tanh: p.tanh,
    np.arcsinh: p.arcsinh,
    np.arccosh: p.arccosh,
    np.arctanh: p.arctanh,
}
WITHOUT_DERIVATIVE: set[Callable[..., Any]] = {  # whose results are plain arrays
    *(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal),
    *(np.isnan, np.isinf, np.isfinite, np.signbit, np.logical_not, np.logical_and, np.logical_or),
    *(np.floor, np.ceil, np.trunc, np.rint),
    *(np.argmax, np.argmin, np.argsort, np.any, np.all, np.count_nonzero, np.nonzero, np.allclose, np.isclose),
    *(np.array_equal, np.searchsorted, np.zeros_like, np.ones_like, np.full_like, np.empty_like),
}


# --- with the names and the order of NumPy's arguments ------------------------------------------------


def _reduced(function: Callable[..., Value]) -> Callable[..., Value]:
    return lambda a, axis=None, *, keepdims=False: function(a, axis=axis, keepdims=keepdims)


def _deviation(function: Callable[..., Value]) -> Callable[..., Value]:
    return lambda a, axis=None, *, ddof=0, keepdims=False: function(a, axis, keepdims, ddof)


def _cumsum(a: Value, axis: int | None = None) -> Value:
    return p.cumsum(_ravel(a), axis=0) if axis is None else p.cumsum(a, axis=axis)


def _sort(a: Value, axis: int | None = -1) -> Value:
    return p.sort(_ravel(a)) if axis is None else p.sort(a, axis=axis)


def _reshape(a: Value, shape: Any) -> Value:
    return p.reshape(a, shape=shape)


def _ravel(a: Value) -> Value:
    return p.reshape(a, shape=(-1,))


def _transpose(a: Value, axes: Sequence[int] | None = None) -> Value:
    return p.transpose(a, axes=axes)


def _like(function: Callable[..., Any]) -> Callable[..., Value]:
    """Return the reshaping that a function of NumPy would do."""

    def reshaped(a: Value, *options: Any, **named: Any) -> Value:
        return p.reshape(a, shape=np.shape(function(array_of(a), *options, **named)))

    return reshaped


def _moved(function: Callable[..., Any]) -> Callable[..., Value]:
    """Return the transposition that a function of NumPy would do."""

    def moved(a: Value, one: Any, other: Any) -> Value:
        numbers = np.empty(range(1, np.ndim(a) + 1))  # an array whose lengths tell its axes
        return p.transpose(a, axes=tuple(length - 1 for length in np.shape(function(numbers, one, other))))

    return moved


def _concatenate(arrays: Sequence[Value], axis: int | None = 0) -> Value:
    return p.concatenate(*map(_ravel, arrays), axis=0) if axis is None else p.concatenate(*arrays, axis=axis)


def _joined(least: int, axis: int) -> Callable[[Sequence[Value]], Value]:
    """Return a concatenation of arrays that have at least so many axes then; rows for one axis."""

    def joined(tup: Sequence[Value]) -> Value:
        of_vectors = [p.reshape(x, shape=(*(1,) * (least - np.ndim(x)), *np.shape(x))) for x in tup]
        return p.concatenate(*of_vectors, axis=0 if np.ndim(of_vectors[0]) == 1 else axis)

    return joined


def _split(ary: Value, indices_or_sections: Any, axis: int = 0) -> list[Value]:
    if isinstance(indices_or_sections, (int, np.integer)):
        return p.split(ary, int(indices_or_sections), axis)
    ends = [0, *indices_or_sections, np.shape(ary)[axis]]
    return [p.take(ary, index=along(axis, np.ndim(ary), slice(*pair))) for pair in pairwise(ends)]


def _where(condition: Any, x: Value = None, y: Value = None) -> Value:
    return np.nonzero(array_of(condition)) if x is None else p.where(array_of(condition) != 0, x, y)


def _clip(a: Value, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Value:  # noqa: A002
    low, high = (one if other is None else other for one, other in ((a_min, min), (a_max, max)))
    low, high = -np.inf if low is None else low, np.inf if high is None else high
    if np.ndim(low) == np.ndim(high) == 0 and not {type(low), type(high)} - {int, float}:
        return p.clip(a, low=low, high=high)
    return p.minimum(p.maximum(a, low), high)


def _pad(array: Value, pad_width: Any, mode: str = "constant") -> Value:
    if mode != "constant":
        raise TypeError(f"np.pad of a recorded array takes mode 'constant' alone, but is given {mode!r}")
    return p.pad(array, width=pad_width)


def _take(a: Value, indices: Any, axis: int | None = None) -> Value:
    if axis is None:
        return p.take(_ravel(a), index=np.asarray(indices))
    return p.take(a, index=along(axis, np.ndim(a), np.asarray(indices)))


def _trace(a: Value) -> Value:
    return p.sum_(p.diag(a))


def _tile(A: Value, reps: Any) -> Value:  # noqa: N803
    reps = np.atleast_1d(reps)
    a = p.reshape(A, shape=(*(1,) * (len(reps) - np.ndim(A)), *np.shape(A)))
    for axis, count in enumerate(np.concatenate([np.ones(np.ndim(a) - len(reps), int), reps])):
        a = p.concatenate(*[a] * int(count), axis=axis) if count != 1 else a
    return a


def _dot(a: Value, b: Value) -> Value:
    if 0 in (np.ndim(a), np.ndim(b)):
        return a * b
    return a @ b if np.ndim(b) <= 2 else p.tensordot(a, b, ([-1], [-2]))


def _diff(a: Value, n: int = 1, axis: int = -1) -> Value:
    after, before = (along(axis, np.ndim(a), part) for part in (slice(1, None), slice(None, -1)))
    for _ in range(n):
        a = p.take(a, index=after) - p.take(a, index=before)
    return a


def _einsum(rule: str, *operands: Value) -> Value:
    return p.einsum(*operands, rule=rule)


def _norm(x: Value, ord: Any = None, axis: Axes = None, *, keepdims: bool = False) -> Value:  # noqa: A002
    is_vector = isinstance(axis, int) or (axis is None and np.ndim(x) == 1)
    if ord is None or (ord == 2 and is_vector) or (ord == "fro" and not is_vector):
        return p.norm(x, axis, keepdims)
    if is_vector and ord in (1, np.inf):
        return (p.sum_ if ord == 1 else p.max_)(p.abs_(x), axis=axis, keepdims=keepdims)
    raise TypeError(f"np.linalg.norm of a recorded array takes ord 1, 2 and inf of vectors alone, but is given {ord!r}")


FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.sum: _reduced(p.sum_),
    np.mean: _reduced(p.mean),
    np.prod: _reduced(p.prod),
    np.max: _reduced(p.max_),
    np.amax: _reduced(p.max_),
    np.min: _reduced(p.min_),
    np.amin: _reduced(p.min_),
    np.var: _deviation(p.variance),
    np.std: _deviation(p.std),
    np.cumsum: _cumsum,
    np.sort: _sort,
    np.reshape: _reshape,
    np.ravel: _ravel,
    np.transpose: _transpose,
    np.expand_dims: _like(np.expand_dims),
    np.squeeze: _like(np.squeeze),
    np.atleast_1d: _like(np.atleast_1d),
    np.atleast_2d: _like(np.atleast_2d),
    np.swapaxes: _moved(np.swapaxes),
    np.moveaxis: _moved(np.moveaxis),
    np.broadcast_to: lambda array, shape: p.broadcast_to(array, shape=shape),
    np.concatenate: _concatenate,
    np.stack: lambda arrays, axis=0: p.stack(arrays, axis),
    np.vstack: _joined(2, 0),
    np.hstack: _joined(1, 1),
    np.split: _split,
    np.where: _where,
    np.clip: _clip,
    np.pad: _pad,
    np.take: _take,
    np.take_along_axis: lambda arr, indices, axis=-1: p.take_along_axis(arr, indices, axis),
    np.diag: lambda v, k=0: p.diag(v, k),
    np.trace: _trace,
    np.tril: lambda m, k=0: p.tril(m, k),
    np.triu: lambda m, k=0: p.triu(m, k),
    np.roll: lambda a, shift, axis=None: p.roll(a, shift, axis),
    np.flip: lambda m, axis=None: p.flip(m, axis),
    np.repeat: lambda a, repeats, axis=None: p.repeat(a, repeats, axis),
    np.tile: _tile,
    np.diff: _diff,
    np.dot: _dot,
    np.outer: p.outer,
    np.kron: p.kron,
    np.tensordot: p.tensordot,
    np.einsum: _einsum,
    np.copy: lambda a: p.identity(a),
    np.linalg.norm: _norm,
    np.linalg.solve: p.solve,
    np.linalg.inv: lambda a: p.inv(a),
    np.linalg.det: lambda a: p.det(a),
    np.linalg.cholesky: lambda a: p.cholesky(a),
}


def plain(value: Any) -> Any:
    """Return a value, or a list or tuple of values, with plain arrays for recorded ones."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(plain, value))
    return array_of(value) if type(value) is Tensor else value


def _without_derivative(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of NumPy on the plain numbers of its arguments."""
    return lambda *inputs, **options: function(
        *map(plain, inputs), **{name: plain(option) for name, option in options.items()}
    )


def _checked(function: Callable[..., Any], found: Callable[..., Any]) -> Callable[..., Any]:
    """Return what stands for a function of NumPy, which refuses arguments that NumPy's takes besides."""

    def checked(*inputs: Any, **options: Any) -> Any:
        if options and isinstance(function, np.ufunc):
            raise TypeError(f"{name_of_numpy(function)} of a recorded array takes inputs alone")
        try:
            return found(*inputs, **options)
        except TypeError:
            _check_arguments(function, found, inputs, options)
            raise

    return checked


def _check_arguments(
    function: Callable[..., Any], found: Callable[..., Any], inputs: Sequence[Any], options: dict[str, Any]
) -> None:
    """Raise TypeError, with what can be given, unless these are arguments of what stands for a function of NumPy."""
    signature = inspect.signature(found)
    try:
        signature.bind(*inputs, **options)
    except TypeError:
        taken = ", ".join(signature.parameters)
        raise TypeError(f"{name_of_numpy(function)} of a recorded array takes {taken} alone") from None


def register() -> None:
    """Let tensors find all functions of this module."""
    for function, found in (UFUNCS | FUNCTIONS).items():
        NUMPY_FUNCTIONS[function] = _checked(function, found)
    for function in WITHOUT_DERIVATIVE:
        NUMPY_FUNCTIONS[function] = _without_derivative(function)
