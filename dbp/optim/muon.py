"""Muon: momentum whose matrices are made orthogonal (Jordan et al. 2024)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from dbp.checks import check_fraction, check_positive
from dbp.optim.adam import AdamW
from dbp.optim.first_order import Work
from dbp.optim.method import Vector
from dbp.optim.pieces import Piece, Setting, Shapes, check_patterns, matches, slices_of


class Matrix(NamedTuple):
    """A parameter as a matrix: where it lies, and its shape with all axes but the last taken together."""

    where: slice
    rows: int
    columns: int

    @property
    def work(self) -> int:
        """A measure of what it takes to make it orthogonal."""
        return self.rows * self.columns * min(self.rows, self.columns)

    @property
    def scale(self) -> float:
        """By which its step is longer, so that outputs change as much whatever its shape; outputs are columns."""
        return math.sqrt(max(1.0, self.columns / self.rows))


@dataclass(frozen=True)
class Muon(AdamW):
    """Steps by the orthogonal matrix that is nearest to the momentum; parameters that are no matrices by AdamW.

    m = momentum m + g;  u = g + momentum m, or m without nesterov;
    w = w - learning_rate sqrt(max(1, columns / rows)) orthogonalize(u), after decay as that of AdamW.

    Args:
        momentum: of matrices.
        nesterov: as above.
        adamw_learning_rate: of parameters that are no matrices; schedules and layer_rates count for them too.
        matrices: patterns of names; by default all parameters of two or more axes but those of the first and of the
            last layer that has such. Kernels of convolutions are matrices of filters.
    """

    kind: ClassVar[str] = "muon"
    scratch = ("direction",)
    learning_rate: float = 2e-2
    momentum: float = 0.95
    nesterov: bool = True
    adamw_learning_rate: float = 3e-4
    matrices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "matrices", tuple(self.matrices))
        check_fraction(momentum=self.momentum)
        check_positive(adamw_learning_rate=self.adamw_learning_rate)

    def check(self, shapes: Shapes) -> None:
        """UserError if a pattern is that of no parameter, or of no matrix."""
        super().check(shapes)
        check_patterns("matrices", self.matrices, _candidates(shapes), "parameters of two or more axes")

    def settings(self, shapes: Shapes) -> list[Setting]:
        """What is settled for each parameter: group 0 is AdamW's, each matrix has a group of its own."""
        groups = {name: number for number, name in enumerate(self._names(shapes), 1)}
        other = self.adamw_learning_rate / self.learning_rate
        return [
            setting._replace(group=groups[name]) if name in groups else setting._replace(rate=setting.rate * other)
            for name, setting in zip(shapes, super().settings(shapes), strict=True)
        ]

    def _names(self, shapes: Shapes) -> list[str]:
        """Which parameters are matrices."""
        names = _candidates(shapes)
        if self.matrices:
            return [name for name in names if matches(self.matrices, name)]
        ends = {_layer(name) for name in (*names[:1], *names[-1:])}
        return [name for name in names if _layer(name) not in ends]

    def _matrices(self, shapes: Shapes) -> list[Matrix]:
        """In the order of their groups."""
        where = slices_of(shapes)
        return [Matrix(where[name], math.prod(shapes[name][:-1]), shapes[name][-1]) for name in self._names(shapes)]

    def advance(self, work: Work) -> None:
        """Update weights and vectors."""
        derived, direction = work.state.derived, work.state.scratch["direction"]
        if "matrices" not in derived:
            derived["matrices"] = self._matrices(work.space.shapes)
        matrices: list[Matrix] = derived["matrices"]
        for p in self.pieces(work):
            self.prepare(p, work)
            if p.group:
                self._remember(p)
            else:
                self.update(p, work)
                self.finish(p, work)
        self._orthogonalize(work, matrices, direction)
        for p in self.pieces(work):
            if p.group:
                np.multiply(p.vectors["direction"], p.rate * matrices[p.group - 1].scale, out=p.spare[0])
                np.subtract(p.w, p.spare[0], out=p.w)
                self.finish(p, work)

    def _remember(self, p: Piece) -> None:
        """Take a piece of the gradient into the momentum, and find that of the direction."""
        m, u = p.vectors["gradients"], p.vectors["direction"]
        np.multiply(m, self.momentum, out=m)
        np.add(m, p.g, out=m)
        if self.nesterov:
            np.multiply(m, self.momentum, out=u)
            np.add(u, p.g, out=u)
        else:
            u[:] = m

    def _orthogonalize(self, work: Work, matrices: list[Matrix], direction: Vector) -> None:
        """Each matrix by one rank, the largest first so that all have about as much to do."""
        in_order = sorted(matrices, key=lambda matrix: -matrix.work)
        work.space.fence(direction)
        for number in work.space.jobs(len(in_order)):
            where, rows, columns = in_order[number]
            direction[where] = orthogonalize(direction[where].reshape(rows, columns)).reshape(-1)
        work.space.fence_jobs(direction, [matrix.where for matrix in in_order])


def orthogonalize(matrix: Vector, iterations: int = 5) -> Vector:
    """About the orthogonal matrix that is nearest: with singular vectors U, V it is U S V^T, S from 0.7 to 1.2.

    Newton and Schulz's iteration, with the coefficients that Jordan et al. found to grow small singular values fastest.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix if len(matrix) <= matrix.shape[1] else matrix.T  # the smaller product
    x = x / max(math.sqrt(float(np.vdot(x, x))), 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x if len(matrix) <= matrix.shape[1] else x.T


def _candidates(shapes: Shapes) -> list[str]:
    return [name for name, shape in shapes.items() if len(shape) > 1 and all(shape)]


def _layer(name: str) -> str:
    """The layer of a parameter: the parameter itself, if it lies in none."""
    return name.rpartition("/")[0] or name
