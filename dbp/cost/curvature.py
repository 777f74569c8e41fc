"""Second derivatives of a cost over all ranks, as products with vectors: those of each shard, and their sum.

The rank that computes a shard records the function once at a point, and computes all products from the record. They
are summed along the tree of shards, so that they are exactly those of the full cost, and have the same bits on any
number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from dbp.autodiff import Linearization, Value, gradient, linearize, sum_
from dbp.parallel import Arena, PlainSum, Shards, Stage, VectorSum
from dbp.random import generator
from dbp.types import Array

Parameters = Mapping[str, Any]  # by name; or a tangent or gradient of the same form
JACOBIAN_BYTES = 2**28  # that the columns of a Jacobian may take


class LossCurvature:
    """The derivatives of the weighted sum of some examples' losses, at a point.

    Args:
        outputs: computes the outputs from the parameters.
        losses: computes the losses from the outputs, as many as there are example weights.
        example_weights: of the losses; None if all are 1.
        at: the parameters, which must not change.
        count: number of examples.
        draw: seed, step and shard, which random signs depend on.
    """

    def __init__(
        self,
        outputs: Callable[[Parameters], Value],
        losses: Callable[[Value], Value],
        example_weights: Array | None,
        at: Parameters,
        count: int,
        draw: tuple[int, int, int] = (0, 0, 0),
    ):
        self._outputs_of, self._losses_of, self._at, self._draw = outputs, losses, at, draw
        self._example_weights = example_weights
        self.example_weight = (
            float(count) if example_weights is None else float(np.sum(example_weights, dtype=np.float64))
        )

    def _loss_sum(self, outputs: Value) -> Value:
        losses = self._losses_of(outputs)
        return sum_(losses if self._example_weights is None else losses * self._example_weights)

    @cached_property
    def _outputs(self) -> Linearization:
        return linearize(self._outputs_of, self._at)

    @cached_property
    def _losses(self) -> Linearization:
        return linearize(self._losses_of, self._outputs.value)

    @cached_property
    def _slope(self) -> Linearization:
        """Return the gradient of the loss sum by the outputs; its derivative is H."""
        return linearize(gradient(self._loss_sum), self._outputs.value)

    @cached_property
    def _gradient(self) -> Linearization:
        """Return the gradient by the parameters; its derivative is the Hessian."""
        return linearize(gradient(lambda parameters: self._loss_sum(self._outputs_of(parameters))), self._at)

    def gradient(self) -> Parameters:
        """Return the gradient by the parameters."""
        return self._outputs.pull(self._slope.value)  # type: ignore[no-any-return]

    def hessian_product(self, vector: Parameters) -> Parameters:
        """Return the Hessian times a vector, forward over reverse (Pearlmutter 1994)."""
        return self._gradient.push(vector)  # type: ignore[no-any-return]

    def gauss_newton_product(self, vector: Parameters) -> Parameters:
        """Return J^T H J times a vector (Schraudolph 2002): J of the outputs, H of the loss sum by the outputs."""
        moved = self._outputs.push(vector)  # J v
        return self._outputs.pull(self._slope.push(moved))  # type: ignore[no-any-return]

    def signed_gradient(self, probe: int) -> Parameters:
        """Return the gradient of the sum of the losses, each times the root of its example weight and a random sign.

        The expectation of its square is the sum of the weighted squares of the losses' own gradients, as signs of
        different losses are independent (Hutchinson 1989).
        """
        losses, (seed, step, shard) = self._losses.value, self._draw
        signs = generator(seed, f"signs of probe {probe}", step, shard).integers(0, 2, losses.shape)
        cotangent = (2 * signs - 1).astype(losses.dtype)
        cotangent = cotangent if self._example_weights is None else cotangent * np.sqrt(self._example_weights)
        return self._outputs.pull(self._losses.pull(cotangent))  # type: ignore[no-any-return]

    def add_gauss_newton_matrix(self, matrix: Array) -> None:
        """Add J^T H J, block by block, to a float64 matrix."""
        size, width = len(matrix), max(1, self._outputs.value.size)
        block = max(1, JACOBIAN_BYTES // (8 * width))  # columns of J, and as many of H J, at a time
        for i in range(0, size, block):
            columns = self._columns(range(i, min(i + block, size)))
            hessian_columns = np.stack([self._slope.push(column).reshape(-1) for column in columns]).astype(np.float64)
            for j in range(0, i + 1, block):
                others = columns if j == i else self._columns(range(j, j + block))
                product = hessian_columns @ np.stack(others).reshape(len(others), -1).astype(np.float64).T
                matrix[i : i + len(columns), j : j + len(others)] += product
                if j < i:
                    matrix[j : j + len(others), i : i + len(columns)] += product.T

    def _columns(self, numbers: range) -> list[Array]:
        """Return J times unit vectors, given the indices of the weights."""
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
    """The second derivatives of a cost at a point, over all ranks; all methods are collective.

    Optimizers see it as the Curvature of optim/protocols.py.

    The vectors that it returns are complete where this rank owns them, and valid until the next gradient or product.
    They may be multiplied next.

    Args:
        examples: yields the derivatives of a shard's examples, by its number, in one piece or several.
        arena: the space of the vectors.
        shards: who computes which shard.
        vector_sum: sums vectors over all shards.
    """

    def __init__(
        self,
        examples: Callable[[int], Iterable[LossCurvature]],
        arena: Arena,
        shards: Shards,
        vector_sum: VectorSum,
    ):
        self._examples, self._arena, self._layout = examples, arena, arena.layout
        self._shards, self._vector_sum = shards, vector_sum

    def gradient(self) -> Array:
        """Return the gradient of the cost."""
        return self._sum(LossCurvature.gradient)

    def hessian_product(self, vector: Array) -> Array:
        """Return the Hessian times a vector."""
        along = self._read(vector)
        return self._sum(lambda losses: losses.hessian_product(along))

    def gauss_newton_product(self, vector: Array) -> Array:
        """Return J^T H J times a vector: J of the outputs by the weights, H of the cost by the outputs."""
        along = self._read(vector)
        return self._sum(lambda losses: losses.gauss_newton_product(along))

    def squared_gradients(self, probes: int) -> Array:
        """Return an estimate of the weighted mean of the squares of the losses' own gradients.

        Args:
            probes: gradients with random signs, which the estimate is the mean of.
        """

        def mean_square(losses: LossCurvature) -> Parameters:
            found: dict[str, Array] = {}
            for probe in range(probes):
                for name, part in losses.signed_gradient(probe).items():
                    found[name] = found.get(name, 0) + part * part / probes
            return found

        return self._sum(mean_square)

    def gauss_newton_matrix(self) -> Array:
        """Return the whole matrix J^T H J, float64, the same on every rank."""
        size = self._layout.size
        vector_sum = PlainSum(self._arena.comm, self._shards, size * size, np.float64, 1)
        tree = vector_sum.start()
        self._arena.comm.clock.enter(Stage.PRODUCTS)
        for number in self._shards.mine:
            sums = vector_sum.buffer()
            sums.bytes[:] = 0
            for losses in self._examples(number):
                losses.add_gauss_newton_matrix(sums.vector.reshape(size, size))
                sums.scalars += losses.example_weight
            tree.push(0, number, sums)
        total = vector_sum.total(tree, divisor=0)
        self._arena.comm.clock.enter(Stage.UPDATE)
        return total.vector.reshape(size, size)

    def _read(self, vector: Array) -> Parameters:
        self._arena.fence(vector)
        if self._vector_sum.is_total(vector):
            vector = vector.copy()
        return self._layout.views(vector)

    def _sum(self, product: Callable[[LossCurvature], Parameters]) -> Array:
        """Return the sum of a product over all shards, divided by the sum of all example weights."""
        clock = self._arena.comm.clock
        tree = self._vector_sum.start()
        for number in self._shards.mine:
            sums = self._vector_sum.buffer()
            sums.bytes[:] = 0
            views = self._layout.views(sums.vector, writable=True)
            clock.enter(Stage.PRODUCTS)
            for losses in self._examples(number):
                for name, part in product(losses).items():
                    views[name] += part
                sums.scalars[0] += losses.example_weight
            tree.push(0, number, sums)
        clock.enter(Stage.SUM)
        total = self._vector_sum.total(tree, divisor=0)
        clock.enter(Stage.UPDATE)
        return total.vector
