"""Conjugate gradients: minimize a quadratic model by one product with its matrix per iteration."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from dbp.optim.blockwise import cache_blocks
from dbp.optim.preconditioner import Preconditioner
from dbp.optim.protocols import Vector, VectorSpace


@dataclass(frozen=True)
class Iterate:
    """The progress after some iterations.

    Args:
        number: the number of iterations.
        model: the value of the model at x.
        curvature: p^T A p / p^T p of the last search direction p; without a radius, x does not move along a p whose
            curvature is not positive.
        at_boundary: whether x has been moved to the boundary of the region, where the iterations end.
    """

    number: int
    model: float
    curvature: float = math.inf
    at_boundary: bool = False


@dataclass(frozen=True)
class Workspace:
    """The vectors that the iterations need, each as long as x.

    Args:
        residual: r = A x + g.
        search: the search direction p.
        scaled: the preconditioned residual y = M^-1 r; without a preconditioner the residual itself.
        preconditioner: M^-1, if there is one.
    """

    residual: Vector
    search: Vector
    scaled: Vector
    preconditioner: Preconditioner | None = None

    def scale(self) -> None:
        """Write the preconditioned residual."""
        if self.preconditioner is not None:
            self.preconditioner.apply(self.residual, self.scaled)


def conjugate_gradients(
    space: VectorSpace,
    product: Callable[[Vector], Vector],
    gradient: Vector,
    x: Vector,
    workspace: Workspace,
    damping: float = 0.0,
    radius: float = math.inf,
    tolerance: float = 0.0,
) -> Iterator[Iterate]:
    """Minimize the model g.x + x.A x / 2 with A = B + damping I, in place, and yield after each iteration.

    Without a radius: preconditioned conjugate gradients (Nocedal and Wright 2006, Algorithm 5.3), which end at the
    first curvature that is not positive. With a radius: CG-Steihaug (Algorithm 7.2; Steihaug 1983), which keeps
    |x| <= radius and must start from x = 0. An iteration of length a changes the model by -a r.y + a^2 p.A p / 2.

    Args:
        space: the space of the vectors.
        product: returns B times a vector; the result is valid until the next call.
        gradient: g.
        x: the starting point, overwritten by the iterates.
        workspace: overwritten.
        damping: added to the diagonal of B; not negative.
        radius: the largest norm of x.
        tolerance: the part of its norm at the start (by M^-1) that the residual has when the iterations end.

    Yields: the start, numbered 0, and then one Iterate per iteration.
    """
    r, p, y = workspace.residual, workspace.search, workspace.scaled
    model, square = _start(space, product, gradient, x, workspace, damping), 0.0  # square is |x|^2
    ry = space.dot(r, y)
    least, number = ry * max(float(np.finfo(x.dtype).eps), tolerance) ** 2, 0
    yield Iterate(0, model)
    while ry > least:
        number += 1
        bp = product(p)
        pbp, pp, px = space.dots([p], [bp, p, x])[0].tolist()
        pap = pbp + damping * pp
        length = ry / pap if pap > 0 else math.inf
        to_boundary = _length_to(radius, square, px, pp)
        reaches_boundary = to_boundary < math.inf and not length < to_boundary
        if reaches_boundary:
            length = to_boundary
        elif length == math.inf:
            yield Iterate(number, model, pap / pp)
            return
        model += length * (length * pap / 2 - ry)
        square += length * (2 * px + length * pp)
        for block in cache_blocks(space.owned):
            x[block] += length * p[block]
            r[block] += length * bp[block] + (length * damping) * p[block]
        yield Iterate(number, model, pap / pp, reaches_boundary)
        if reaches_boundary:
            return
        workspace.scale()
        previous_ry, ry = ry, space.dot(r, y)
        for block in cache_blocks(space.owned):
            p[block] *= ry / previous_ry
            p[block] -= y[block]


def _length_to(radius: float, square: float, px: float, pp: float) -> float:
    """Return the length of the step along p that ends where |x| is the radius, given |x|^2, p.x and |p|^2."""
    return math.inf if radius == math.inf else (math.sqrt(px**2 + pp * (radius**2 - square)) - px) / pp


def _start(
    space: VectorSpace,
    product: Callable[[Vector], Vector],
    gradient: Vector,
    x: Vector,
    workspace: Workspace,
    damping: float,
) -> float:
    """Set residual and first search direction, and return the model's value at x."""
    is_zero = not space.dot(x, x) > 0
    bx = x if is_zero else product(x)
    for block in cache_blocks(space.owned):
        workspace.residual[block] = gradient[block] + bx[block] + damping * x[block]
    workspace.scale()
    for block in cache_blocks(space.owned):
        np.negative(workspace.scaled[block], out=workspace.search[block])
    return 0.0 if is_zero else float(space.dots([x], [workspace.residual, gradient]).sum()) / 2
