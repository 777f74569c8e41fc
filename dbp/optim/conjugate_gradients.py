"""Conjugate gradients: the minimum of a quadratic model, by one product with its matrix an iteration."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np

from dbp.optim.method import Vector, VectorSpace, cache_blocks


@dataclass(frozen=True)
class Iterate:
    """Where the method is after some iterations.

    Args:
        number: of iterations.
        model: the model's value at x.
        curvature: p^T A p / p^T p along the last search direction p; if it is not positive, x was not moved along it.
        at_boundary: whether x was moved to the boundary of the region, and no further.
    """

    number: int
    model: float
    curvature: float = math.inf
    at_boundary: bool = False


@dataclass(frozen=True)
class Work:
    """Vectors to work in.

    Args:
        residual: r = A x + g.
        search: the direction p.
        scaled: y = M^-1 r; the residual itself if there is no preconditioner.
        inverse: the diagonal of M^-1, if there is one.
    """

    residual: Vector
    search: Vector
    scaled: Vector
    inverse: Vector | None = None


def conjugate_gradients(
    space: VectorSpace,
    product: Callable[[Vector], Vector],
    gradient: Vector,
    x: Vector,
    work: Work,
    damping: float = 0.0,
    radius: float = math.inf,
) -> Iterator[Iterate]:
    """Minimize g x + x A x / 2 with A = B + damping, in place: Algorithm 5.3, Nocedal and Wright 2006.

    With a radius, |x| stays within it, and x begins with zero: their Algorithm 7.2 (Steihaug 1983). Without one, it
    ends where curvature is not positive. The value of the model needs no inner products of its own, as an iteration
    changes it by -a r y + a^2 p A p / 2.

    Args:
        space: of the vectors.
        product: gives B times a vector.
        gradient: g.
        x: where to begin.
        work: what it works in.
        damping: added to the diagonal of B.
        radius: of the region in which x must stay.
    """
    r, p, y = work.residual, work.search, work.scaled
    model, square = _begin(space, product, gradient, x, work, damping), 0.0
    ry = space.dot(r, y)
    least = float(np.finfo(x.dtype).eps) ** 2 * ry
    yield Iterate(0, model)
    for number in count(1):
        if not ry > least:
            return
        bp = product(p)
        pbp, pp, px = space.dots([p], [bp, p, x])[0].tolist()
        curved = pbp + damping * pp
        length = ry / curved if curved > 0 else math.inf
        leaves = radius < math.inf and not (curved > 0 and square + length * (2 * px + length * pp) < radius**2)
        if leaves:
            length = (math.sqrt(px**2 + pp * (radius**2 - square)) - px) / pp
        elif length == math.inf:
            yield Iterate(number, model, curved / pp)
            return
        model += length * (length * curved / 2 - ry)
        square += length * (2 * px + length * pp)
        for block in cache_blocks(space.owned):
            x[block] += length * p[block]
            r[block] += length * bp[block] + (length * damping) * p[block]
            if work.inverse is not None:
                np.multiply(r[block], work.inverse[block], out=y[block])
        yield Iterate(number, model, curved / pp, leaves)
        if leaves:
            return
        before, ry = ry, space.dot(r, y)
        for block in cache_blocks(space.owned):
            p[block] *= ry / before
            p[block] -= y[block]


def _begin(
    space: VectorSpace, product: Callable[[Vector], Vector], gradient: Vector, x: Vector, work: Work, damping: float
) -> float:
    """Residual and first direction at x; the model's value there."""
    begun = space.dot(x, x) > 0
    bx = product(x) if begun else x
    for block in cache_blocks(space.owned):
        work.residual[block] = gradient[block] + bx[block] + damping * x[block]
        if work.inverse is not None:
            np.multiply(work.residual[block], work.inverse[block], out=work.scaled[block])
        np.negative(work.scaled[block], out=work.search[block])
    return float(space.dots([x], [work.residual, gradient]).sum()) / 2 if begun else 0.0
