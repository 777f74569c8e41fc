"""Initial values of parameters, by name.

A shape is (taps ..., inputs, outputs): of a dense layer's matrix, or of a convolution's weights at all its taps.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from dbp.autodiff import Array
from dbp.errors import unknown

Shape = tuple[int, ...]
CONNECTIONS = 15  # of an output, with sparse weights
Initialiser = Callable[[np.random.Generator, Shape], Array]


def _fans(shape: Shape) -> tuple[int, int]:
    """How many numbers an output depends on, and how many outputs a number goes into."""
    taps = math.prod(shape[:-2])
    return taps * math.prod(shape[-2:-1]), taps * shape[-1]


def _uniform(rng: np.random.Generator, shape: Shape, variance: float) -> Array:
    limit = math.sqrt(3 * variance)
    return rng.uniform(-limit, limit, shape)


def _normal(rng: np.random.Generator, shape: Shape, variance: float) -> Array:
    return math.sqrt(variance) * rng.standard_normal(shape)


def _glorot(shape: Shape) -> float:
    return 2 / max(1, sum(_fans(shape)))


def _he(shape: Shape) -> float:
    return 2 / max(1, _fans(shape)[0])


def _lecun(shape: Shape) -> float:
    return 1 / max(1, _fans(shape)[0])


def _orthogonal(rng: np.random.Generator, shape: Shape) -> Array:
    rows, columns = math.prod(shape[:-1]), shape[-1]
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.where(np.diag(r) < 0, -1.0, 1.0)
    return np.reshape(q if rows >= columns else q.T, shape)


def _sparse(rng: np.random.Generator, shape: Shape) -> Array:
    """A few numbers of variance 1 for each output: so many that its sum varies, whatever the number of inputs."""
    inputs, outputs = math.prod(shape[:-1]), shape[-1]
    weights = np.zeros((inputs, outputs))
    for column in weights.T:
        chosen = rng.permutation(inputs)[:CONNECTIONS]
        column[chosen] = rng.standard_normal(len(chosen))
    return weights.reshape(shape)


# Glorot and Bengio 2010, equation 16; He et al. 2015, equation 10; LeCun et al. 1998, section 4.6;
# orthogonal: Saxe, McClelland and Ganguli 2014; sparse: Martens 2010, section 5.
INITIALISERS: dict[str, Initialiser] = {
    "zeros": lambda rng, shape: np.zeros(shape),
    "ones": lambda rng, shape: np.ones(shape),
    "normal": lambda rng, shape: _normal(rng, shape, 1),
    "glorot_uniform": lambda rng, shape: _uniform(rng, shape, _glorot(shape)),
    "glorot_normal": lambda rng, shape: _normal(rng, shape, _glorot(shape)),
    "he_uniform": lambda rng, shape: _uniform(rng, shape, _he(shape)),
    "he_normal": lambda rng, shape: _normal(rng, shape, _he(shape)),
    "lecun_uniform": lambda rng, shape: _uniform(rng, shape, _lecun(shape)),
    "lecun_normal": lambda rng, shape: _normal(rng, shape, _lecun(shape)),
    "orthogonal": _orthogonal,
    "sparse": _sparse,
}


def initialiser(name: str) -> Initialiser:
    """The initialiser of that name; UserError for an unknown one."""
    if name not in INITIALISERS:
        raise unknown("initialiser", name, INITIALISERS)
    return INITIALISERS[name]
