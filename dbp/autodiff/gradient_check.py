"""The gradient check: derivatives compared with differences of the function along random directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dbp.autodiff.graph import pullback, pushforward
from dbp.autodiff.tensor import Tensor, Value, array_of


def _difference(function: Callable[..., Any], points: list[Any], directions: list[Any], h: float) -> Any:
    """Return the directional derivative by central differences, with an error of fourth order in h."""

    def at(step: float) -> Any:
        moved = [p + step * d for p, d in zip(points, directions, strict=True)]
        return array_of(function(*moved))

    return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)


def check_derivatives(
    function: Callable[..., Value], *points: Any, tolerance: float = 1e-6, h: float = 1e-3, seed: int = 0
) -> None:
    """Compare reverse and forward derivatives of a function with differences along a random direction.

    Args:
        function: of float64 arrays, written with primitives; returns an array of any shape.
        points: the arguments; more than 2 h away from kinks.
        tolerance: relative to the largest absolute derivative, or to 1 if that is larger.
        h: step of the differences.
        seed: of the random directions.

    Raises:
        AssertionError: naming the mode that disagrees, with both numbers.
    """
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(p, np.float64) for p in points]
    directions = [rng.standard_normal(p.shape) for p in arrays]
    expected = _difference(function, arrays, directions, h)
    leaves = [Tensor(p) for p in arrays]
    output = function(*leaves)

    (forward,) = pushforward([output], list(zip(leaves, directions, strict=True)))
    _compare("forward", 0 * expected if forward is None else array_of(forward), expected, tolerance)

    cotangent = rng.standard_normal(np.shape(expected))
    gradients = pullback(output, cotangent, leaves)
    reverse = sum(np.sum(g * d) for g, d in zip(gradients, directions, strict=True) if g is not None)
    _compare("reverse", np.asarray(reverse), np.sum(cotangent * expected), tolerance)


def _compare(mode: str, got: Any, expected: Any, tolerance: float) -> None:
    error = np.max(np.abs(got - expected), initial=0.0)
    size = max(1.0, np.max(np.abs(expected), initial=0.0))
    if not error <= tolerance * size:
        raise AssertionError(f"the {mode} derivative is {got}, but differences give {expected}")
