"""Second derivatives of a cost over all ranks, as products with vectors: of each shard alone, and their sum.

The function is recorded once at a point, by the rank that computes the shard, and all products are taken from the
record. They are summed along the tree of shards, so that they are exactly those of the full cost, and have the same
bits on any number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from dbp.autodiff import Linearization, Value, gradient, linearize, sum_
from dbp.parallel import Arena, Layout, Reduction, Shards, VectorSum
from dbp.parallel.ranks import clock as stages
from dbp.random import generator
from dbp.types import Array

Parameters = Mapping[str, Any]  # by name; or what is of their form, such as a tangent
MEMORY = 2**28  # bytes that the columns of a Jacobian may take


class Curved:
    """The derivatives of the weighted sum of some examples' losses, at a point.

    Args:
        outputs: of the parameters.
        losses: of the outputs; as many as weights.
        weights: of the losses; None where all are 1.
        at: the parameters, which must not change.
        count: of examples.
        draw: seed, step and shard, on which random signs depend.
    """

    def __init__(
        self,
        outputs: Callable[[Parameters], Value],
        losses: Callable[[Value], Value],
        weights: Array | None,
        at: Parameters,
        count: int,
        draw: tuple[int, int, int] = (0, 0, 0),
    ):
        self._outputs_of, self._losses_of, self._weights, self._at, self._draw = outputs, losses, weights, at, draw
        self.weight = float(count) if weights is None else float(np.sum(weights, dtype=np.float64))

    def _loss_sum(self, outputs: Value) -> Value:
        losses = self._losses_of(outputs)
        return sum_(losses if self._weights is None else losses * self._weights)

    @cached_property
    def _outputs(self) -> Linearization:
        return linearize(self._outputs_of, self._at)

    @cached_property
    def _losses(self) -> Linearization:
        return linearize(self._losses_of, self._outputs.value)

    @cached_property
    def _slope(self) -> Linearization:
        """The gradient of the loss sum by the outputs, whose derivative is H."""
        return linearize(gradient(self._loss_sum), self._outputs.value)

    @cached_property
    def _gradient(self) -> Linearization:
        """The gradient by the parameters, whose derivative is the Hessian."""
        return linearize(gradient(lambda parameters: self._loss_sum(self._outputs_of(parameters))), self._at)

    def gradient(self) -> Parameters:
        """By the parameters."""
        return self._outputs.pull(self._slope.value)  # type: ignore[no-any-return]

    def hessian_product(self, vector: Parameters) -> Parameters:
        """The Hessian times a vector, forward over reverse (Pearlmutter 1994)."""
        return self._gradient.push(vector)  # type: ignore[no-any-return]

    def gauss_newton_product(self, vector: Parameters) -> Parameters:
        """J^T H J times a vector (Schraudolph 2002): J of the outputs, H of the loss sum by the outputs."""
        moved = self._outputs.push(vector)  # J v
        return self._outputs.pull(self._slope.push(moved))  # type: ignore[no-any-return]

    def signed_gradient(self, probe: int) -> Parameters:
        """Of the sum of the losses times the square roots of their weights, each with a random sign.

        The expectation of its square is the sum of the weighted squares of the losses' own gradients, as signs of
        different losses are independent (Hutchinson 1989).
        """
        losses, (seed, step, shard) = self._losses.value, self._draw
        signs = generator(seed, f"signs of probe {probe}", step, shard).integers(0, 2, losses.shape)
        cotangent = (2 * signs - 1).astype(losses.dtype)
        cotangent = cotangent if self._weights is None else cotangent * np.sqrt(self._weights)
        return self._outputs.pull(self._losses.pull(cotangent))  # type: ignore[no-any-return]

    def add_gauss_newton_matrix(self, matrix: Array) -> None:
        """Add J^T H J, column by column, to a float64 matrix."""
        size, width = len(matrix), max(1, self._outputs.value.size)
        block = max(1, MEMORY // (8 * width))  # columns of J at a time; those of H J are as many
        for i in range(0, size, block):
            columns = self._columns(range(i, min(i + block, size)))
            curved = np.stack([self._slope.push(column).reshape(-1) for column in columns]).astype(np.float64)
            for j in range(0, i + 1, block):
                others = columns if j == i else self._columns(range(j, j + block))
                product = curved @ np.stack(others).reshape(len(others), -1).astype(np.float64).T
                matrix[i : i + len(columns), j : j + len(others)] += product
                if j < i:
                    matrix[j : j + len(others), i : i + len(columns)] += product.T

    def _columns(self, numbers: range) -> list[Array]:
        """J times unit vectors, by number of the weight."""
        columns, start = [], 0
        for name, array in self._at.items():
            for number in range(max(start, numbers.start), min(start + array.size, numbers.stop)):
                unit = np.zeros(array.size, array.dtype)
                unit[number - start] = 1
                still = dict.fromkeys(self._at)
                columns.append(self._outputs.push(still | {name: unit.reshape(array.shape)}))
            start += array.size
        return columns


class Curvature:
    """The second derivatives of a cost at a point, over all ranks; see optim.method.Curvature. All is collective.

    What it gives lies in the reduction's vector, complete where it is owned, until that is used again; it may be what
    is multiplied next.

    Args:
        examples: those of a shard, by its number, in one piece or several.
        arena: whose vectors are given.
        layout: of the parameters in them.
        shards: who computes which.
        reduction: of vectors.
    """

    def __init__(
        self,
        examples: Callable[[int], Iterable[Curved]],
        arena: Arena,
        layout: Layout,
        shards: Shards,
        reduction: VectorSum,
    ):
        self._examples, self._arena, self._layout = examples, arena, layout
        self._shards, self._reduction = shards, reduction

    def gradient(self) -> Array:
        """Of the cost."""
        return self._sum(Curved.gradient)

    def hessian_product(self, vector: Array) -> Array:
        """The Hessian times a vector."""
        along = self._read(vector)
        return self._sum(lambda curved: curved.hessian_product(along))

    def gauss_newton_product(self, vector: Array) -> Array:
        """J^T H J times a vector: J of the outputs by the weights, H of the cost by the outputs."""
        along = self._read(vector)
        return self._sum(lambda curved: curved.gauss_newton_product(along))

    def squared_gradients(self, probes: int) -> Array:
        """The weighted mean of the squares of the gradients of the losses that have weights, estimated."""

        def mean_square(curved: Curved) -> Parameters:
            found: dict[str, Array] = {}
            for probe in range(probes):
                for name, part in curved.signed_gradient(probe).items():
                    found[name] = found.get(name, 0) + part * part / probes
            return found

        return self._sum(mean_square)

    def gauss_newton_matrix(self) -> Array:
        """J^T H J as a whole, float64, the same on every rank."""
        size = self._layout.size
        reduction = Reduction(self._arena.comm, self._shards, size * size, np.float64, 1)
        tree = reduction.start()
        self._arena.comm.stages.enter(stages.PRODUCTS)
        for number in self._shards.mine:
            sums = reduction.buffer()
            sums.bytes[:] = 0
            for curved in self._examples(number):
                curved.add_gauss_newton_matrix(sums.vector.reshape(size, size))
                sums.scalars += curved.weight
            tree.push(0, number, sums)
        total = reduction.total(tree, divisor=0)
        self._arena.comm.stages.enter(stages.UPDATE)
        return total.vector.reshape(size, size)

    def _read(self, vector: Array) -> Parameters:
        self._arena.fence(vector)
        if self._reduction.is_total(vector):
            vector = vector.copy()
        return self._layout.views(vector)

    def _sum(self, product: Callable[[Curved], Parameters]) -> Array:
        """The sum of what the examples give, over the sum of all weights."""
        clock = self._arena.comm.stages
        tree = self._reduction.start()
        for number in self._shards.mine:
            sums = self._reduction.buffer()
            sums.bytes[:] = 0
            places = self._layout.views(sums.vector, writable=True)
            clock.enter(stages.PRODUCTS)
            for curved in self._examples(number):
                for name, part in product(curved).items():
                    places[name] += part
                sums.scalars[0] += curved.weight
            tree.push(0, number, sums)
        clock.enter(stages.SUM)
        total = self._reduction.total(tree, divisor=0)
        clock.enter(stages.UPDATE)
        return total.vector
