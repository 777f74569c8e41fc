"""Preconditioners of conjugate gradients: approximate inverses of the damped matrix of a quadratic model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

from dbp.optim.blockwise import cache_blocks, copy_owned
from dbp.optim.protocols import Curvature, MiniBatchCost, Vector, VectorSpace

if TYPE_CHECKING:
    from dbp.optim.kronecker_inverse import KroneckerInverse

FACTORS_UP_TO = 8192  # rows of a factor; weights with larger ones have a diagonal instead


class Preconditioner(Protocol):
    """An approximate inverse of the damped matrix at a point.

    Attributes:
        products: how many products of the matrix, about, have been spent on it.
    """

    products: int

    def apply(self, residual: Vector, target: Vector) -> None:
        """Write the inverse times a residual to another vector, where it is owned."""
        ...


class DiagonalPreconditioner:
    """The inverse of (squared gradients + damping)^exponent (Martens 2010, section 4.7).

    Args:
        space: of the vectors.
        curvature: at the point.
        inverse: a vector to overwrite.
        damping: positive.
        exponent: positive.
        probes: the number of gradients with random signs that estimate the squared gradients.
    """

    def __init__(
        self, space: VectorSpace, curvature: Curvature, inverse: Vector, damping: float, exponent: float, probes: int
    ):
        self._space, self._inverse, self.products = space, inverse, probes
        squares = curvature.squared_gradients(probes)
        for block in cache_blocks(space.owned):
            inverse[block] = (squares[block] + damping) ** -exponent

    def apply(self, residual: Vector, target: Vector) -> None:
        """Write the inverse times a residual to another vector; see Preconditioner.apply()."""
        for block in cache_blocks(self._space.owned):
            target[block] = residual[block] * self._inverse[block]


class KroneckerPreconditioner:
    """The inverse of the damped Kronecker approximation of the Fisher matrix (Martens and Grosse 2015, section 6.3).

    Args:
        cost: of the mini-batch.
        weights: the point.
        part: the part of the mini-batch that the factors are computed from.
        damping: positive.
        derived: a cache of the optimizer's state.
    """

    products = 1

    def __init__(self, cost: MiniBatchCost[Any], weights: Vector, part: float, damping: float, derived: dict[str, Any]):
        self._space, self._damping = cost.space, math.sqrt(damping)
        factors = cost.kronecker_factors(weights, part, FACTORS_UP_TO)
        self._finite = factors.finite
        if "kronecker" not in derived:
            from dbp.optim.kronecker_inverse import KroneckerInverse  # which other optimizers do not need

            derived["kronecker"] = KroneckerInverse(factors, cost.space)
        self._inverse: KroneckerInverse = derived["kronecker"]
        if self._finite:
            self._inverse.average(factors.total, 0.0)
            self._inverse.invert(self._damping)

    def apply(self, residual: Vector, target: Vector) -> None:
        """Write the inverse times a residual to another vector; see Preconditioner.apply()."""
        if not self._finite:  # as the matrix is then, which ends the iterations
            copy_owned(self._space, residual, target)
            return
        self._space.fence(residual)
        self._inverse.write_direction(residual, self._damping, target)
        for block in cache_blocks(self._space.owned):
            target[block] *= -1
