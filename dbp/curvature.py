"""Second derivatives of the cost over all ranks, as products with a vector; the model is used as in evaluation.

Each product is summed over a shard's examples by the rank that computes the shard, and over the shards along the
tree, so that it is exactly that of the full cost and has the same bits on any number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from dbp.autodiff import Array, Value, gauss_newton_product, hessian_product, jvp, sum_
from dbp.nn import use
from dbp.objective import Objective, Shard, as_weighted
from dbp.parallel import Reduction

Chunks = Callable[[int], Iterable[Shard]]  # the examples of a shard, by its number, in pieces that bound the memory
Parameters = dict[str, Value]
Product = Callable[[Parameters, Parameters, Shard], Parameters]


class Curvature:
    """The second derivatives of an objective's cost over some examples; all methods are collective.

    Args:
        objective: whose model, loss, parameters and ranks these are.
    """

    def __init__(self, objective: Objective):
        self._objective = objective
        comm, size = objective.arena.comm, objective.layout.size
        self._vectors = Reduction(comm, objective.shards, size, objective.dtype, 1)
        self._numbers = Reduction(comm, objective.shards, 0, objective.dtype, 2)

    def slope(self, weights: Array, vector: Array, chunks: Chunks) -> float:
        """The gradient of the cost times a vector, in forward mode."""
        tree = self._numbers.start()
        at, along = self._objective.layout.views(weights), self._objective.layout.views(vector)
        for number in self._objective.shards.mine:
            sums = self._numbers.buffer()
            sums.scalars[:] = 0
            for chunk in chunks(number):
                moved = jvp(lambda w, chunk=chunk: self._loss_sum(self._outputs(w, chunk), chunk), (at,), (along,))[1]
                sums.scalars += _weight(chunk), float(moved)
            tree.push(0, number, sums)
        weight, moved = self._numbers.total(tree).scalars.tolist()
        return float(moved / weight) if weight else 0.0

    def hessian_product(self, weights: Array, vector: Array, chunks: Chunks) -> Array:
        """The Hessian of the cost times a vector (Pearlmutter 1994); valid until the next product."""

        def product(at: Parameters, along: Parameters, chunk: Shard) -> Parameters:
            (found,) = hessian_product(lambda w: self._loss_sum(self._outputs(w, chunk), chunk), (at,), (along,))
            return found  # type: ignore[no-any-return]

        return self._sum(product, weights, vector, chunks)

    def gauss_newton_product(self, weights: Array, vector: Array, chunks: Chunks) -> Array:
        """J^T H J times a vector: J of the outputs by the weights, H of the cost by the outputs (Schraudolph 2002)."""

        def product(at: Parameters, along: Parameters, chunk: Shard) -> Parameters:
            (found,) = gauss_newton_product(
                lambda w: self._outputs(w, chunk), lambda y: self._loss_sum(y, chunk), (at,), (along,)
            )
            return found  # type: ignore[no-any-return]

        return self._sum(product, weights, vector, chunks)

    def _sum(self, product: Product, weights: Array, vector: Array, chunks: Chunks) -> Array:
        """The products of all shards' loss sums, over the sum of all weights."""
        layout = self._objective.layout
        tree = self._vectors.start()
        at, along = layout.views(weights), layout.views(vector)
        for number in self._objective.shards.mine:
            sums = self._vectors.buffer()
            sums.bytes[:] = 0
            places = layout.views(sums.vector, writable=True)
            for chunk in chunks(number):
                for name, part in product(at, along, chunk).items():
                    places[name] += part
                sums.scalars += _weight(chunk)
            tree.push(0, number, sums)
        return self._vectors.total(tree, divisor=0).vector

    def _outputs(self, parameters: Parameters, chunk: Shard) -> Value:
        return self._objective.model(use(parameters, self._objective.running), chunk.inputs)

    def _loss_sum(self, outputs: Value, chunk: Shard) -> Value:
        losses = as_weighted(self._objective.loss(outputs, chunk.targets), chunk)
        return sum_(losses if chunk.weights is None else losses * chunk.weights)


def _weight(chunk: Shard) -> float:
    """The sum of the weights of some examples."""
    return float(len(chunk.inputs)) if chunk.weights is None else float(np.sum(chunk.weights, dtype=np.float64))
