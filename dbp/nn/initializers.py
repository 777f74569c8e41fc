"""Initializers, by name: functions that fill a parameter with its initial values.

To add one, write a function of (rng, out) that fills `out`, enter it in INITIALIZERS, and name it in docs/config.md.

Parameters have shape (taps ..., inputs, outputs), as a dense layer's matrix or a convolution's kernel. Numbers are
drawn in float64 and written to an array of any dtype piece by piece, in memory order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from dbp.errors import unknown
from dbp.types import Array

Shape = tuple[int, ...]
SPARSE_FAN_IN = 15  # nonzero weights per output
PIECE = 1 << 16  # elements drawn together
Initializer = Callable[[np.random.Generator, Array], None]  # fills a contiguous array


def _fans(shape: Shape) -> tuple[int, int]:
    """Return fan-in and fan-out: the inputs of one output, and the outputs of one input."""
    taps = math.prod(shape[:-2])
    return taps * math.prod(shape[-2:-1]), taps * shape[-1]


def _shaped(out: Array, *shape: int) -> Array:
    assert out.flags.c_contiguous, "reshaping would copy"
    return out.reshape(shape)


def _pieces(out: Array) -> Iterator[Array]:
    numbers = _shaped(out, out.size)
    return (numbers[start : start + PIECE] for start in range(0, out.size, PIECE))


def _uniform(rng: np.random.Generator, out: Array, variance: float) -> None:
    limit = math.sqrt(3 * variance)
    for piece in _pieces(out):
        piece[:] = rng.uniform(-limit, limit, len(piece))


def _normal(rng: np.random.Generator, out: Array, variance: float) -> None:
    deviation = math.sqrt(variance)
    for piece in _pieces(out):
        piece[:] = deviation * rng.standard_normal(len(piece))


def _glorot(shape: Shape) -> float:
    return 2 / max(1, sum(_fans(shape)))


def _he(shape: Shape) -> float:
    return 2 / max(1, _fans(shape)[0])


def _lecun(shape: Shape) -> float:
    return 1 / max(1, _fans(shape)[0])


def _orthogonal(rng: np.random.Generator, out: Array) -> None:
    rows, columns = math.prod(out.shape[:-1]), out.shape[-1]
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.where(np.diag(r) < 0, -1.0, 1.0)
    out[...] = np.reshape(q if rows >= columns else q.T, out.shape)


def _sparse(rng: np.random.Generator, out: Array) -> None:
    """Give each output SPARSE_FAN_IN weights of variance 1, whatever its number of inputs, and zeros else."""
    out.fill(0)
    weights = _shaped(out, math.prod(out.shape[:-1]), out.shape[-1])
    for column in weights.T:
        chosen = rng.permutation(len(weights))[:SPARSE_FAN_IN]
        column[chosen] = rng.standard_normal(len(chosen))


# Glorot and Bengio 2010, equation 16; He et al. 2015, equation 10; LeCun et al. 1998, section 4.6;
# orthogonal: Saxe, McClelland and Ganguli 2014; sparse: Martens 2010, section 5.
INITIALIZERS: dict[str, Initializer] = {
    "zeros": lambda _rng, out: out.fill(0),
    "ones": lambda _rng, out: out.fill(1),
    "quarters": lambda _rng, out: out.fill(0.25),
    "normal": lambda rng, out: _normal(rng, out, 1),
    "glorot_uniform": lambda rng, out: _uniform(rng, out, _glorot(out.shape)),
    "glorot_normal": lambda rng, out: _normal(rng, out, _glorot(out.shape)),
    "he_uniform": lambda rng, out: _uniform(rng, out, _he(out.shape)),
    "he_normal": lambda rng, out: _normal(rng, out, _he(out.shape)),
    "lecun_uniform": lambda rng, out: _uniform(rng, out, _lecun(out.shape)),
    "lecun_normal": lambda rng, out: _normal(rng, out, _lecun(out.shape)),
    "orthogonal": _orthogonal,
    "sparse": _sparse,
}


def initializer(name: str) -> Initializer:
    """Return the initializer of this name; UserError for an unknown one."""
    if name not in INITIALIZERS:
        raise unknown("initializer", name, INITIALIZERS)
    return INITIALIZERS[name]
