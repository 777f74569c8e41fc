"""Models of a cost by its Gauss-Newton matrix J^T H J, and their minima within a radius: all of it, or a subspace."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from dbp.optim.dense_trust_region import Proposal, propose
from dbp.optim.method import Curvature, Root, Space, Vector, VectorSpace, cache_blocks

RESIDUAL = 1e-2  # relative to the gradient: what the subspace may leave of the equations of a step


class GaussNewton(Protocol):
    """The model at a point."""

    products: int  # with the matrix, so far

    finite: bool  # whether it is made of numbers; the same on every rank

    def step(self, radius: float, target: Vector) -> Proposal:
        """Write the minimum within a radius into a vector, where it is owned; the same on every rank."""
        ...


class Dense:
    """The whole matrix, in variables scaled by the roots of the largest diagonal so far (More 1978, section 6).

    The equations are solved on the first rank alone: what all ranks do cannot differ then.

    Args:
        space: of the vectors.
        root: solves the equations for all ranks.
        curvature: at the point.
        gradient: at the point, where it is owned.
        scale: D, the diagonal; updated.
    """

    def __init__(self, space: VectorSpace, root: Root, curvature: Curvature, gradient: Vector, scale: Vector):
        self._root, self.products = root, len(scale)
        matrix = curvature.gauss_newton_matrix()
        self.finite = bool(root.broadcast(bool(np.isfinite(matrix).all())))
        columns = np.sqrt(np.maximum(matrix.diagonal(), 0))
        for block in cache_blocks(space.owned):
            np.maximum(scale[block], columns[block], out=scale[block], casting="same_kind")
            scale[block][scale[block] == 0] = 1  # a weight that so far has made no difference, as in lmder
        space.fence(scale)
        gradient, scale = root.gather_vector(gradient), root.gather_vector(scale)
        if root.is_root and self.finite:
            self._scale = scale.astype(np.float64)
            self._matrix = matrix / self._scale / self._scale[:, None]
            self._gradient = gradient / self._scale

    def step(self, radius: float, target: Vector) -> Proposal:
        """The minimum within a radius."""
        found = None
        if self._root.is_root:
            found = propose(self._matrix, self._gradient, radius)
            target[:] = found.step / self._scale
        self._root.broadcast_vector(target)
        told: Proposal = self._root.broadcast(found)
        return told


class Subspace:
    """The matrix within the Krylov space of the gradient, which a few products build (Lanczos 1950).

    For every damping its step is that to which conjugate gradients would come by as many products with the damped
    matrix; so a new radius, and with it a new damping, takes no new products. Each vector is made orthogonal to all
    before it, twice, which keeps it so to rounding (Giraud et al. 2005).

    Args:
        space: of the vectors.
        root: solves the equations for all ranks.
        curvature: at the point.
        gradient: at the point, where it is owned; not zero.
        basis: vectors to be filled; the subspace has at most as many dimensions.
        radius: of the first step, for which the subspace must be large enough.
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
        self.products, self.finite = 0, True
        combine(space, basis[0], [gradient], [1 / self._norm])
        while self._grow(curvature, radius):
            pass

    def _grow(self, curvature: Curvature, radius: float) -> bool:
        """Add a row to the matrix, and unless that is enough a vector to the basis, of which there is one more."""
        known = self._basis[: self.products + 1]
        product = curvature.gauss_newton_product(known[-1])
        row = self._space.dots([product], known)[0]
        self.products += 1
        self._matrix = np.pad(self._matrix, (0, 1))
        self._matrix[-1], self._matrix[:, -1] = row, row
        self.finite = bool(np.isfinite(row).all())
        if not self.finite or len(known) == len(self._basis):
            return False
        new = self._basis[len(known)]
        combine(self._space, new, [product, *known], [1.0, *-row])
        combine(self._space, new, [new, *known], [1.0, *-self._space.dots([new], known)[0]])
        beyond = self._space.dot(new, new) ** 0.5
        left = beyond * abs(self._propose(radius).step[-1])  # the norm of (A + damping I) p + g
        if left <= RESIDUAL * self._norm:
            return False
        combine(self._space, new, [new], [1 / beyond])
        return True

    def _propose(self, radius: float) -> Proposal:
        found = None
        if self._root.is_root:
            gradient = np.zeros(self.products)
            gradient[0] = self._norm
            found = propose(self._matrix, gradient, radius)
        told: Proposal = self._root.broadcast(found)
        return told

    def step(self, radius: float, target: Vector) -> Proposal:
        """The minimum within a radius."""
        found = self._propose(radius)
        combine(self._space, target, self._basis[: self.products], found.step)
        return found


def combine(space: Space, target: Vector, vectors: Sequence[Vector], factors: Iterable[float]) -> None:
    """Write a sum of multiples of vectors, of which the first may be the target itself."""
    numbers = [target.dtype.type(factor) for factor in factors]
    for block in cache_blocks(space.owned):
        total = vectors[0][block] * numbers[0]
        for vector, number in zip(vectors[1:], numbers[1:], strict=True):
            total += vector[block] * number
        target[block] = total
