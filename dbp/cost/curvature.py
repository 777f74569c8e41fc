"""Second derivatives of a cost over all ranks, as products with vectors: those of each shard, and their sum.

The rank that computes a shard records the function once at a point, and computes all products from the record. They
are summed along the tree of shards, so that they are exactly those of the full cost, and have the same bits on any
number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import methodcaller
from typing import Any

import numpy as np

from dbp.autodiff import Linearization, Value, gradient, linearize, sum_
from dbp.parallel import Arena, PlainSum, ShardAllreduce, Shards, Stage, SumBuffer, Total, VectorSum, passes
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
        example_weight: by whose sum over all shards sums are divided; by default that of the example weights.
    """

    def __init__(
        self,
        outputs: Callable[[Parameters], Value],
        losses: Callable[[Value], Value],
        example_weights: Array | None,
        at: Parameters,
        count: int,
        draw: tuple[int, int, int] = (0, 0, 0),
        example_weight: float | None = None,
    ):
        self._outputs_of, self._losses_of, self._at, self._draw = outputs, losses, at, draw
        self._example_weights = example_weights
        self._records: dict[str, Linearization] = {}
        if example_weight is None:
            example_weight = float(count if example_weights is None else np.sum(example_weights, dtype=np.float64))
        self.example_weight = example_weight

    def _loss_sum(self, outputs: Value) -> Value:
        losses = self._losses_of(outputs)
        return sum_(losses if self._example_weights is None else losses * self._example_weights)

    def _recorded(self, name: str, record: Callable[[], Linearization]) -> Linearization:
        """Return a record, made at its first use.

        functools.cached_property would hold a lock of all objects while one is computed, in which shards wait for each
        other.
        """
        if name not in self._records:
            self._records[name] = record()
        return self._records[name]

    @property
    def _outputs(self) -> Linearization:
        return self._recorded("outputs", lambda: linearize(self._outputs_of, self._at))

    @property
    def _losses(self) -> Linearization:
        return self._recorded("losses", lambda: linearize(self._losses_of, self._outputs.value))

    @property
    def _slope(self) -> Linearization:
        """Return the gradient of the loss sum by the outputs; its derivative is H."""
        return self._recorded("slope", lambda: linearize(gradient(self._loss_sum), self._outputs.value))

    @property
    def _gradient(self) -> Linearization:
        """Return the gradient by the parameters; its derivative is the Hessian."""
        of_all = gradient(lambda parameters: self._loss_sum(self._outputs_of(parameters)))
        return self._recorded("gradient", lambda: linearize(of_all, self._at))

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

    def gauss_newton_forms(self, vectors: Sequence[Parameters]) -> Array:
        """Return the inner products of vectors by J^T H J, float64, shape (vectors, vectors), in forward mode alone."""
        moved = [self._outputs.push(vector) for vector in vectors]
        curved = [self._slope.push(tangent) for tangent in moved]
        left, right = (np.stack([x.reshape(-1) for x in rows]).astype(np.float64) for rows in (moved, curved))
        return np.asarray(left @ right.T)

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

    @property
    def output_size(self) -> int:
        """Return the number of outputs, over all examples."""
        return int(self._outputs.value.size)

    def add_gauss_newton_matrix(self, matrix: Array, width: int) -> None:
        """Add J^T H J, block by block, to a float64 matrix.

        Args:
            matrix: shape (weights, weights).
            width: the number of outputs on which the size of the blocks depends.
        """
        size, width = len(matrix), max(1, width)
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
        allreduce: sums over all shards within their products, if some layer does that.
    """

    def __init__(
        self,
        examples: Callable[[int], Iterable[LossCurvature]],
        arena: Arena,
        shards: Shards,
        vector_sum: VectorSum,
        allreduce: ShardAllreduce | None = None,
    ):
        self._examples, self._arena, self._layout = examples, arena, arena.layout
        self._shards, self._vector_sum, self._allreduce = shards, vector_sum, allreduce

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

    def gauss_newton_forms(self, vectors: Sequence[Array]) -> Array:
        """Return the inner products v_i^T J^T H J v_j of vectors, float64, the same on every rank."""
        along = [self._read(vector) for vector in vectors]
        vector_sum = PlainSum(self._arena.comm, self._shards, 0, self._arena.dtype, 1 + len(vectors) ** 2)
        tree = vector_sum.start()

        def forms(number: int) -> SumBuffer:
            sums = vector_sum.buffer()
            sums.scalars[:] = 0
            self._arena.comm.clock.enter(Stage.PRODUCTS)
            for losses in self._examples(number):
                sums.scalars[0] += losses.example_weight
                sums.scalars[1:] += losses.gauss_newton_forms(along).reshape(-1)
            return sums

        for number, sums in passes(self._shards, forms, self._allreduce):
            tree.push(0, number, sums)
        weight, *found = vector_sum.total(tree).scalars
        self._arena.comm.clock.enter(Stage.UPDATE)
        return np.reshape(found, (len(vectors), len(vectors))) / (weight or 1.0)

    def squared_gradients(self, probes: int) -> Array:
        """Return an estimate of the weighted mean of the squares of the losses' own gradients.

        Args:
            probes: gradients with random signs, which the estimate is the mean of.
        """
        if self._allreduce is not None:
            return self._squared_sums(probes)

        def mean_square(losses: LossCurvature) -> Parameters:
            found: dict[str, Array] = {}
            for probe in range(probes):
                for name, part in losses.signed_gradient(probe).items():
                    found[name] = found.get(name, 0) + part * part / probes
            return found

        return self._sum(mean_square)

    def _squared_sums(self, probes: int) -> Array:
        """Return the estimate for losses that depend on the examples of other shards, so that sums are squared."""
        found = np.zeros(self._layout.size, self._arena.dtype)
        for probe in range(probes):
            total = self._total(methodcaller("signed_gradient", probe))
            for part in self._arena.owned:
                mean = total.vector[part]
                found[part] += mean * mean * (total.scalars[0] / probes).astype(found.dtype)
        return found

    def gauss_newton_matrix(self) -> Array:
        """Return the whole matrix J^T H J, float64, the same on every rank."""
        size = self._layout.size
        vector_sum = PlainSum(self._arena.comm, self._shards, size * size, np.float64, 1)
        tree = vector_sum.start()

        def matrix(number: int) -> SumBuffer:
            sums = vector_sum.buffer()
            sums.bytes[:] = 0
            self._arena.comm.clock.enter(Stage.PRODUCTS)
            for losses in self._examples(number):
                losses.add_gauss_newton_matrix(sums.vector.reshape(size, size), self._block_width(losses))
                sums.scalars += losses.example_weight
            return sums

        for number, sums in passes(self._shards, matrix, self._allreduce):
            tree.push(0, number, sums)
        total = vector_sum.total(tree, divisor=0)
        self._arena.comm.clock.enter(Stage.UPDATE)
        return total.vector.reshape(size, size)

    def _block_width(self, losses: LossCurvature) -> int:
        """Return the number of outputs for which blocks of a matrix are made, the same for shards that sum in them."""
        if self._allreduce is None:
            return losses.output_size
        return int(self._allreduce.sum(np.array(float(losses.output_size)), "outputs"))

    def _read(self, vector: Array) -> Parameters:
        self._arena.fence(vector)
        if self._vector_sum.is_total(vector):
            vector = vector.copy()
        return self._layout.views(vector)

    def _sum(self, product: Callable[[LossCurvature], Parameters]) -> Array:
        """Return the sum of a product over all shards, divided by the sum of all example weights."""
        return self._total(product).vector

    def _total(self, product: Callable[[LossCurvature], Parameters]) -> Total:
        """Return the sum of a product over all shards, divided by that of the example weights, the first scalar."""
        clock = self._arena.comm.clock
        tree = self._vector_sum.start()

        def sums_of(number: int) -> SumBuffer:
            sums = self._vector_sum.buffer()
            sums.bytes[:] = 0
            views = self._layout.views(sums.vector, writable=True)
            clock.enter(Stage.PRODUCTS)
            for losses in self._examples(number):
                for name, part in product(losses).items():
                    views[name] += part
                sums.scalars[0] += losses.example_weight
            return sums

        for number, sums in passes(self._shards, sums_of, self._allreduce):
            tree.push(0, number, sums)
        clock.enter(Stage.SUM)
        total = self._vector_sum.total(tree, divisor=0)
        clock.enter(Stage.UPDATE)
        return total
