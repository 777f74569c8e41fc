"""Muon: momentum whose matrices are orthogonalized (Jordan et al. 2024)."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from dbp.checks import check_fraction, check_positive
from dbp.optim.adam import AdamW
from dbp.optim.first_order import UpdateContext
from dbp.optim.parameter_blocks import Block, ParameterSetting, Shapes, check_patterns, matches, slices_of
from dbp.optim.protocols import Vector


class Matrix(NamedTuple):
    """A parameter as a matrix.

    Args:
        where: its range in the flat vectors.
        rows: the product of all axes of the parameter but the last.
        columns: the last axis, which is that of the outputs.
    """

    where: slice
    rows: int
    columns: int

    @property
    def work(self) -> int:
        """Return the multiplications of one product with the transposed matrix: how long orthogonalize() takes."""
        return self.rows * self.columns * min(self.rows, self.columns)

    @property
    def scale(self) -> float:
        """Return the factor on the step with which outputs change equally whatever the matrix's shape."""
        return math.sqrt(max(1.0, self.columns / self.rows))


@dataclass(frozen=True)
class Muon(AdamW):
    """Steps along the orthogonal matrix nearest to the momentum; AdamW for parameters that are not matrices.

    The source is Jordan et al. 2024.

    m = momentum m + g
    u = g + momentum m, or without nesterov u = m
    w = w - learning_rate sqrt(max(1, columns / rows)) orthogonalize(u), after AdamW's weight decay

    Args:
        momentum: of matrices; at least 0 and below 1.
        nesterov: whether u is g + momentum m.
        adamw_learning_rate: of parameters that are not matrices; the schedule and layer_rates apply to it too.
        matrices: patterns of names of the parameters to take as matrices; by default all with two or more axes,
            except in the first and the last layer that have any. The kernel of a convolution is one matrix.
    """

    kind: ClassVar[str] = "muon"
    is_elementwise: ClassVar[bool] = False
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

    def check(self, shapes: Shapes, sparse: Collection[str] = ()) -> None:
        """Raise UserError if a pattern matches no parameter, or one of `matrices` no matrix."""
        super().check(shapes, sparse)
        check_patterns("matrices", self.matrices, _candidates(shapes), "parameters of two or more axes")

    def settings(self, shapes: Shapes) -> list[ParameterSetting]:
        """Return the settings of each parameter; group 0 is AdamW's, and each matrix is a group of its own."""
        groups = {name: number for number, name in enumerate(self._names(shapes), 1)}
        adamw = self.adamw_learning_rate / self.learning_rate
        return [
            setting._replace(group=groups[name])
            if name in groups
            else setting._replace(rate_factor=setting.rate_factor * adamw)
            for name, setting in zip(shapes, super().settings(shapes), strict=True)
        ]

    def _names(self, shapes: Shapes) -> list[str]:
        """Return the names of the parameters that are taken as matrices."""
        names = _candidates(shapes)
        if self.matrices:
            return [name for name in names if matches(self.matrices, name)]
        ends = {_layer(name) for name in (*names[:1], *names[-1:])}
        return [name for name in names if _layer(name) not in ends]

    def _matrices(self, shapes: Shapes) -> list[Matrix]:
        """Return the matrices in the order of their groups."""
        where = slices_of(shapes)
        return [Matrix(where[name], math.prod(shapes[name][:-1]), shapes[name][-1]) for name in self._names(shapes)]

    def advance(self, context: UpdateContext) -> None:
        """Update AdamW's parameters and all momenta, orthogonalize the directions, then step along them."""
        derived, direction = context.state.derived, context.state.scratch["direction"]
        if "matrices" not in derived:
            derived["matrices"] = self._matrices(context.space.shapes)
        matrices: list[Matrix] = derived["matrices"]
        for block in self.blocks(context):
            self.prepare(block, context)
            if block.group:
                self._update_momentum(block)
            else:
                self.update(block, context)
                self.update_average(block, context)
        self._orthogonalize(context, matrices, direction)
        for block in self.blocks(context):
            if block.group:
                change, length = block.buffers[0], block.learning_rate * matrices[block.group - 1].scale
                np.multiply(block.vectors["direction"], length, out=change)
                np.subtract(block.w, change, out=block.w)
                self.update_average(block, context)

    def _update_momentum(self, block: Block) -> None:
        """Update m, and write u to the direction."""
        m, u = block.vectors["gradients"], block.vectors["direction"]
        np.multiply(m, self.momentum, out=m)
        np.add(m, block.g, out=m)
        if self.nesterov:
            np.multiply(m, self.momentum, out=u)
            np.add(u, block.g, out=u)
        else:
            u[:] = m

    def _orthogonalize(self, context: UpdateContext, matrices: list[Matrix], direction: Vector) -> None:
        """Orthogonalize each matrix on one rank, the largest first to balance the load of the ranks."""
        by_size = sorted(matrices, key=lambda matrix: -matrix.work)
        context.space.fence(direction)
        for number in context.space.jobs(len(by_size)):
            where, rows, columns = by_size[number]
            direction[where] = orthogonalize(direction[where].reshape(rows, columns)).reshape(-1)
        context.space.fence_jobs(direction, [matrix.where for matrix in by_size])


def orthogonalize(matrix: Vector, iterations: int = 5) -> Vector:
    """Return approximately the nearest orthogonal matrix: U S V^T of the SVD, with S from 0.7 to 1.2 in place of 1.

    The Newton-Schulz iteration, with the coefficients that Jordan et al. 2024 chose so that small singular values grow
    fastest.

    Args:
        matrix: shape (rows, columns).
        iterations: each takes three matrix products.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix if len(matrix) <= matrix.shape[1] else matrix.T  # x x^T is then the smaller of the two Gram matrices
    x = x / max(math.sqrt(float(np.vdot(x, x))), 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x if len(matrix) <= matrix.shape[1] else x.T


def _candidates(shapes: Shapes) -> list[str]:
    """Return the names of all parameters with two or more axes, none of them empty."""
    return [name for name, shape in shapes.items() if len(shape) > 1 and all(shape)]


def _layer(name: str) -> str:
    """Return the name of a parameter's layer, or the parameter's own if it has none."""
    return name.rpartition("/")[0] or name
