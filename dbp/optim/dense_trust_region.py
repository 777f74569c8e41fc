"""The Levenberg-Marquardt parameter of a trust region, for a model whose matrix is at hand.

The model of the cost is m(q) = g.q + q.A q / 2 with A positive semi-definite. Its minimum over all q with a norm up to
the radius solves (A + damping I) q = -g, where the damping is zero or such that the norm is the radius.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dbp.types import Array

NEAR = 0.1  # the part of the radius by which the norm may miss it: sigma in More (1978)
ATTEMPTS = 10  # as in MINPACK's lmpar; a bound on work, as two or three are usual
BLOCK = 64  # rows of a triangle that are solved at a time


class Cholesky:
    """A = L L^T, and what is solved with it; LinAlgError if A is not positive definite."""

    def __init__(self, matrix: Array):
        self._lower = np.linalg.cholesky(matrix)

    def forward(self, right: Array) -> Array:
        """The x of L x = right; NumPy has no triangular solver, so one of blocks."""
        lower, x = self._lower, np.empty_like(right)
        for i in range(0, len(x), BLOCK):
            rows = slice(i, i + BLOCK)
            x[rows] = np.linalg.solve(lower[rows, rows], right[rows] - lower[rows, :i] @ x[:i])
        return x

    def backward(self, right: Array) -> Array:
        """The x of L^T x = right."""
        lower, x = self._lower, np.empty_like(right)
        for i in reversed(range(0, len(x), BLOCK)):
            rows, after = slice(i, i + BLOCK), slice(i + BLOCK, None)
            x[rows] = np.linalg.solve(lower[rows, rows].T, right[rows] - lower[after, rows].T @ x[after])
        return x


@dataclass(frozen=True)
class Proposal:
    """A step within the radius, and what the model says of it.

    Args:
        step: the q of the model.
        norm: of q.
        slope: g.q, negative.
        reduction: -m(q), by which the cost should fall.
        damping: zero for a step that the radius does not bound.
    """

    step: Array
    norm: float
    slope: float
    reduction: float
    damping: float


def propose(matrix: Array, gradient: Array, radius: float) -> Proposal:
    """The minimum of the model within a radius (More 1978, algorithm 5.5, where A = J^T J and J is scaled).

    Args:
        matrix: A, symmetric.
        gradient: g, not zero.
        radius: positive.
    """
    step, damping = _damped_step(matrix, gradient, radius)
    norm = float(np.linalg.norm(step))
    curved = float(step @ (matrix @ step))  # |J p|^2
    damped = damping * norm**2
    return Proposal(
        step, norm, -(curved + damped), curved / 2 + damped, damping
    )  # (4.3), which rounding keeps positive


def _damped_step(matrix: Array, gradient: Array, radius: float) -> tuple[Array, float]:
    """The step and its damping, by Newton's method on 1 / norm (Hebden 1973) within bounds.

    Dampings begin with what rounding adds to the matrix anyway, so that one of lower rank does as well.
    """
    lower, upper = float(np.finfo(np.float64).eps * matrix.trace()), float(np.linalg.norm(gradient)) / radius
    step = -gradient / upper  # the limit of large dampings
    solved = _solve(matrix, gradient, lower)
    if solved is not None:
        found, norm, change = solved
        if norm <= (1 + NEAR) * radius:
            return found, 0.0
        lower = max(lower, (norm - radius) / (radius * change))
    damping = 0.0
    for _ in range(ATTEMPTS):
        if not lower < damping < upper:
            damping = max(0.001 * upper, (lower * upper) ** 0.5)  # (a)
        solved = _solve(matrix, gradient, damping)
        if solved is None:  # rounding has made it indefinite
            lower, damping = damping, 0.0
            continue
        step, norm, change = solved
        excess = norm - radius  # (b): phi
        if abs(excess) <= NEAR * radius:
            break
        lower, upper = (max(lower, damping), upper) if excess > 0 else (lower, min(upper, damping))
        damping = max(lower, damping + excess / (radius * change))  # (c)
    return step, damping


def _solve(matrix: Array, gradient: Array, damping: float) -> tuple[Array, float, float] | None:
    """The step for a damping, its norm, and -d(norm)/d(damping) / norm; None if there is none."""
    damped = matrix.copy()
    damped.flat[:: len(damped) + 1] += damping
    try:
        factor = Cholesky(damped)
    except np.linalg.LinAlgError:
        return None
    step = factor.backward(factor.forward(-gradient))
    norm = float(np.linalg.norm(step))
    if not np.isfinite(norm):
        return None
    return step, norm, float(np.linalg.norm(factor.forward(step / norm))) ** 2 if norm else 0.0
