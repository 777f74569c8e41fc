"""The trust-region subproblem for a small model whose matrix is known: minimize m(q) = g.q + q.A q / 2, |q| <= radius.

A is positive semi-definite. The minimum solves (A + damping I) q = -g, where the damping (the Levenberg-Marquardt
parameter) is zero, or such that |q| is the radius.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dbp.types import Array

RADIUS_TOLERANCE = 0.1  # relative difference allowed between norm and radius: sigma in Moré (1978)
MAX_ITERATIONS = 10  # as in MINPACK's lmpar; two or three are usual
BLOCK_ROWS = 64  # of a triangular matrix that are solved at a time


class Cholesky:
    """The Cholesky factor of A = L L^T.

    Args:
        matrix: A, symmetric; LinAlgError is raised unless it is positive definite.
    """

    def __init__(self, matrix: Array):
        self._lower = np.linalg.cholesky(matrix)

    def forward(self, right: Array) -> Array:
        """Return the solution x of L x = right, block by block, because NumPy has no triangular solver."""
        lower, x = self._lower, np.empty_like(right)
        for i in range(0, len(x), BLOCK_ROWS):
            rows = slice(i, i + BLOCK_ROWS)
            x[rows] = np.linalg.solve(lower[rows, rows], right[rows] - lower[rows, :i] @ x[:i])
        return x

    def backward(self, right: Array) -> Array:
        """Return the solution x of L^T x = right."""
        lower, x = self._lower, np.empty_like(right)
        for i in reversed(range(0, len(x), BLOCK_ROWS)):
            rows, after = slice(i, i + BLOCK_ROWS), slice(i + BLOCK_ROWS, None)
            x[rows] = np.linalg.solve(lower[rows, rows].T, right[rows] - lower[after, rows].T @ x[after])
        return x


@dataclass(frozen=True)
class TrustRegionStep:
    """The minimum q of the model within the radius.

    Args:
        step: q.
        norm: |q|.
        slope: g.q, negative.
        reduction: -m(q), the predicted decrease of the cost.
        damping: zero if the radius does not bound the step.
    """

    step: Array
    norm: float
    slope: float
    reduction: float
    damping: float


def trust_region_step(matrix: Array, gradient: Array, radius: float) -> TrustRegionStep:
    """Return the minimum of the model within a radius (Moré 1978, algorithm 5.5, with A = J^T J of a scaled J).

    Args:
        matrix: A, symmetric, shape (n, n), float64.
        gradient: g, not zero, shape (n,).
        radius: positive.
    """
    step, damping = _damped_step(matrix, gradient, radius)
    norm = float(np.linalg.norm(step))
    curved = float(step @ (matrix @ step))  # |J p|^2
    damped = damping * norm**2
    # The reduction by Moré's equation (4.3), a sum of squares: rounding cannot make it negative.
    return TrustRegionStep(step, norm, -(curved + damped), curved / 2 + damped, damping)


def _damped_step(matrix: Array, gradient: Array, radius: float) -> tuple[Array, float]:
    """Return the step and its damping, by Newton's method on 1 / norm (Hebden 1973) between two bounds.

    The least damping is as large as the rounding errors of the matrix, so that a singular matrix can be factorized.
    """
    lower, upper = float(np.finfo(np.float64).eps * matrix.trace()), float(np.linalg.norm(gradient)) / radius
    step = -gradient / upper  # the limit of large dampings
    solved = _solve(matrix, gradient, lower)
    if solved is not None:
        found, norm, change = solved
        if norm <= (1 + RADIUS_TOLERANCE) * radius:
            return found, 0.0
        lower = max(lower, (norm - radius) / (radius * change))
    damping = 0.0
    for _ in range(MAX_ITERATIONS):
        if not lower < damping < upper:
            damping = max(0.001 * upper, (lower * upper) ** 0.5)  # step (a) of algorithm 5.5
        solved = _solve(matrix, gradient, damping)
        if solved is None:  # not positive definite, by rounding
            lower, damping = damping, 0.0
            continue
        step, norm, change = solved
        excess = norm - radius  # step (b): phi(damping)
        if abs(excess) <= RADIUS_TOLERANCE * radius:
            break
        lower, upper = (max(lower, damping), upper) if excess > 0 else (lower, min(upper, damping))
        damping = max(lower, damping + excess / (radius * change))  # step (c)
    return step, damping


def _solve(matrix: Array, gradient: Array, damping: float) -> tuple[Array, float, float] | None:
    """Return the step for a damping, its norm, and -d(norm)/d(damping) / norm; None if there is no such step."""
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
