"""Quadratic models of the cost with its Gauss-Newton matrix J^T H J, and their minima within a radius.

DenseModel forms the whole matrix, SubspaceModel projects it on a Krylov space. J is the Jacobian of the outputs by the
weights, H the Hessian of the cost by the outputs (Schraudolph 2002).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from dbp.optim.blockwise import cache_blocks
from dbp.optim.dense_trust_region import TrustRegionStep, trust_region_step
from dbp.optim.protocols import Curvature, Root, Space, Vector, VectorSpace
from dbp.types import Array

RESIDUAL_TOLERANCE = 1e-2  # the subspace grows until the residual of the step is below this part of the gradient


class GaussNewtonModel(Protocol):
    """A quadratic model of the cost at a point."""

    products: int  # with the matrix, so far
    finite: bool  # whether the matrix is finite; the same on every rank
    idle: int  # how many weights have no influence on the outputs at the point, as far as the model knows
    lost: int  # how many of them had some at earlier points

    def step(self, radius: float, target: Vector) -> TrustRegionStep:
        """Write the minimum within a radius to a vector, where it is owned, and return it in the model's variables."""
        ...


class DenseModel:
    """The model with the whole matrix, in variables scaled by the roots of its diagonal (Moré 1978, section 6).

    The root solves the equations alone, so the ranks cannot come to different results.

    Args:
        space: the space of the vectors.
        root: the rank that solves the equations for all.
        curvature: at the point.
        gradient: at the point, where it is owned.
        scale: the diagonal scaling D, the largest so far; updated.
    """

    def __init__(self, space: VectorSpace, root: Root, curvature: Curvature, gradient: Vector, scale: Vector):
        self._root, self.products = root, len(scale)
        matrix = curvature.gauss_newton_matrix()
        columns = np.sqrt(np.maximum(matrix.diagonal(), 0))
        for block in cache_blocks(space.owned):
            np.maximum(scale[block], columns[block], out=scale[block], casting="same_kind")
            scale[block][scale[block] == 0] = 1  # the weight has had no influence so far; as in lmder
        space.fence(scale)
        gradient, scale = root.gather_vector(gradient), root.gather_vector(scale)
        found = _count_idle(columns, scale) if root.is_root else (0, 0)
        self.finite, self.idle, self.lost = root.broadcast((bool(np.isfinite(matrix).all()), *found))
        if root.is_root and self.finite:
            self._scale = scale.astype(np.float64)
            self._matrix = matrix / self._scale / self._scale[:, None]
            self._gradient = gradient / self._scale

    def step(self, radius: float, target: Vector) -> TrustRegionStep:
        """Write the minimum within a radius to a vector, and return it in scaled variables."""
        found = None
        if self._root.is_root:
            found = trust_region_step(self._matrix, self._gradient, radius)
            target[:] = found.step / self._scale
        self._root.broadcast_vector(target)
        everywhere: TrustRegionStep = self._root.broadcast(found)
        return everywhere


def _count_idle(columns: Array, scale: Array) -> tuple[int, int]:
    """Return how many weights have no influence on the outputs, and how many of them had some before.

    Args:
        columns: norms of the columns of J at the point.
        scale: the largest of each so far, or 1 if it has always been 0.
    """
    least = np.finfo(np.float64).eps
    idle = columns <= least * columns.max(initial=0)
    return int(idle.sum()), int((idle & (columns <= least * scale) & (scale != 1)).sum())


class SubspaceModel:
    """The model in the Krylov space of the gradient, which a few products with the matrix build (Lanczos 1950).

    For every damping, its step is the one that conjugate gradients reach with as many products of the damped matrix.
    So another radius, and with it another damping, needs no further products. Each basis vector is made orthogonal to
    all earlier ones twice, which is enough up to rounding (Giraud et al. 2005).

    Args:
        space: the space of the vectors.
        root: the rank that solves the equations for all.
        curvature: at the point.
        gradient: at the point, where it is owned; not zero.
        basis: vectors to overwrite, one per dimension that the subspace may have.
        radius: of the first step, for which the subspace is made large enough.
    """

    def __init__(
        self,
        space: VectorSpace,
        root: Root,
        curvature: Curvature,
        gradient: Vector,
        basis: Sequence[Vector],
        radius: float,
    ):
        self._space, self._root, self._basis, self._matrix = space, root, basis, np.zeros((0, 0))
        self._norm = space.dot(gradient, gradient) ** 0.5
        self.products, self.finite, self.idle, self.lost = 0, True, 0, 0
        linear_combination(space, basis[0], [gradient], [1 / self._norm])
        while self._grow(curvature, radius):
            pass

    def _grow(self, curvature: Curvature, radius: float) -> bool:
        """Add a row to the projected matrix and, unless that is enough, the next basis vector; return True if added."""
        known = self._basis[: len(self._matrix) + 1]
        product = curvature.gauss_newton_product(known[-1])
        row = self._space.dots([product], known)[0]
        self.products += 1
        self._matrix = np.pad(self._matrix, (0, 1))
        self._matrix[-1], self._matrix[:, -1] = row, row
        self.finite = bool(np.isfinite(row).all())
        if not self.finite or len(known) == len(self._basis):
            return False
        new = self._basis[len(known)]
        linear_combination(self._space, new, [product, *known], [1.0, *-row])
        linear_combination(self._space, new, [new, *known], [1.0, *-self._space.dots([new], known)[0]])
        norm = self._space.dot(new, new) ** 0.5
        residual = norm * abs(self._minimum(radius).step[-1])  # |(A + damping I) p + g|
        if residual <= RESIDUAL_TOLERANCE * self._norm:
            return False
        linear_combination(self._space, new, [new], [1 / norm])
        return True

    def _minimum(self, radius: float) -> TrustRegionStep:
        """Return the minimum within a radius in coordinates of the basis, found on the root."""
        found = None
        if self._root.is_root:
            gradient = np.zeros(len(self._matrix))
            gradient[0] = self._norm
            found = trust_region_step(self._matrix, gradient, radius)
        everywhere: TrustRegionStep = self._root.broadcast(found)
        return everywhere

    def step(self, radius: float, target: Vector) -> TrustRegionStep:
        """Write the minimum within a radius to a vector, and return it in coordinates of the basis."""
        found = self._minimum(radius)
        linear_combination(self._space, target, self._basis[: len(self._matrix)], found.step)
        return found


def linear_combination(space: Space, target: Vector, vectors: Sequence[Vector], factors: Iterable[float]) -> None:
    """Write the sum of factors times vectors to the target, which may be the first of them."""
    numbers = [target.dtype.type(factor) for factor in factors]
    for block in cache_blocks(space.owned):
        total = vectors[0][block] * numbers[0]
        for vector, number in zip(vectors[1:], numbers[1:], strict=True):
            total += vector[block] * number
        target[block] = total
