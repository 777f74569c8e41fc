"""The Kronecker factors of the Fisher matrix of a mini-batch, summed over all ranks.

The Fisher matrix is that of the model's own distribution of targets: the expectation of the products of gradients for
targets that are drawn from it, and not those of the data (Martens and Grosse 2015, section 5). A loss draws them by its
method draw(). For a loss that has none, gradients of the targets of the data are taken.

Parameters without a Kronecker form have the diagonal of the Fisher matrix, of which one pass estimates each element as
the square of a sum of gradients that do not depend on each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import numpy as np

from dbp.autodiff import Tensor, Value, array_of, pullback, sum_
from dbp.cost.kronecker_layers import KroneckerLayer, Uses, add_inputs, kronecker_uses, masks_of
from dbp.cost.objective import Objective
from dbp.errors import UserError
from dbp.named_arrays import all_of
from dbp.nn import RandomKey
from dbp.parallel import Arena, Layout, Stage, SumBuffer, check_memory, passes, vector_sum_for
from dbp.random import generator
from dbp.reading.shard import Shard
from dbp.types import Array

INPUTS, DELTAS, SQUARES = "inputs", "deltas", "squares"  # before a parameter's name, the names of its factors
TRANSPOSED = "transposed_"  # before the name of a factor of sums with the transposed weight
FEW = 2  # examples of a shard that show which layers a model has
VECTORS = 2  # of factors that the space has room for: what an optimizer averages and inverts


class Sample(NamedTuple):
    """Examples of a mini-batch, at some weights.

    Args:
        weights: the flat weights.
        shards: those of this rank that have examples, by number.
        loss_factors: of the losses of several targets, see cost/joint.py; None for one target.
        draw: returns the key of the random numbers of a shard.
    """

    weights: Array
    shards: Mapping[int, Shard]
    loss_factors: Mapping[str, float] | None
    draw: Callable[[Shard], RandomKey]


class KroneckerFactors:
    """The factors of all parameters in one vector, in a space of their own; as in optim/protocols.py.

    Args:
        objective: model and loss on the ranks.
        layers: those with a Kronecker form.

    Raises:
        UserError: they do not fit in memory.

    Attributes:
        layers: likewise.
        space: of the vectors of factors.
        vectors: of the space, as rows, for the use of the optimizer.
        total: the factors of the last mini-batch, complete where this rank owns them.
        finite: True if all of them are finite.
    """

    def __init__(self, objective: Objective, layers: Sequence[KroneckerLayer]):
        self.layers = layers
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in layers:
            inputs, deltas = (layer.inputs, layer.inputs), (layer.units, layer.units)
            shapes |= {f"{INPUTS}/{layer.weight}": inputs, f"{DELTAS}/{layer.weight}": deltas}
            if layer.is_tied:
                tied = {f"{INPUTS}/{layer.weight}": deltas, f"{DELTAS}/{layer.weight}": inputs}
                shapes |= {TRANSPOSED + name: shape for name, shape in tied.items()}
        self._counted = [name for name in shapes if INPUTS in name.partition("/")[0]]
        kronecker = {name for layer in layers for name in (layer.weight, layer.bias)}
        self._others = [name for name in objective.layout.shapes if name not in kronecker]
        shapes |= {f"{SQUARES}/{name}": objective.layout.shapes[name] for name in self._others}
        self._layout, arena = Layout(shapes), objective.arena
        length = self._layout.size * arena.dtype.itemsize
        check_memory(arena.comm, once=VECTORS * length, each=length)  # each rank holds sums of its own
        self.space = Arena(arena.comm, self._layout, arena.dtype, VECTORS, share=arena.may_share)
        self._objective = objective
        self._sum = vector_sum_for(self.space, objective.shards, 1 + len(self._counted))
        self.vectors: Array = self.space.vectors(VECTORS)
        self.total: Array = self.vectors[0]
        self.finite = True

    @classmethod
    def of(cls, objective: Objective, sample: Sample, longest: int) -> KroneckerFactors:
        """Return the factors that a model has, as the shards with examples find them for all ranks; collective.

        Args:
            objective: model and loss on the ranks.
            sample: the examples.
            longest: the largest number of rows of a factor; weights with larger ones have none.

        Raises:
            UserError: no weight has factors.
        """

        def layers(number: int) -> list[KroneckerLayer] | None:
            return list(Recorded(objective, sample, number, slice(0, FEW)).uses) if number in sample.shards else None

        mine = [found for _, found in passes(objective.shards, layers, objective.allreduce) if found is not None]
        known = [found for of_rank in objective.arena.comm.gather(mine[:1]) for found in of_rank]
        chosen = [layer for layer in known[0] if max(layer.inputs, layer.units) <= longest]
        if not chosen:
            error = UserError(
                "optimizer kfac: no weight of the model is the matrix of a sum, as in dense and convolutional layers, "
                f"with at most {longest} rows and columns; take adam or newton"
            )
            error.on_all_ranks = True
            raise error
        return cls(objective, chosen)

    def add_up(self, sample: Sample) -> None:
        """Set `total` to the factors of some examples; collective."""
        clock, tree = self._objective.arena.comm.clock, self._sum.start()

        def sums_of(number: int) -> SumBuffer:
            sums = self._sum.buffer()
            sums.bytes[:] = 0
            clock.enter(Stage.PRODUCTS)
            if number in sample.shards:
                recorded = Recorded(self._objective, sample, number)
                self._add(recorded, self._layout.views(sums.vector, writable=True), sums.scalars)
            return sums

        for number, sums in passes(self._objective.shards, sums_of, self._objective.allreduce):
            tree.push(0, number, sums)
        clock.enter(Stage.SUM)
        total = self._sum.total(tree)
        clock.enter(Stage.UPDATE)
        self._divide(total.vector, total.scalars)
        self.total, self.finite = total.vector, total.finite

    def _add(self, call: Recorded, views: Mapping[str, Array], scalars: Array) -> None:
        """Add the sums of a shard: matrices and squares to views, example weight and counts of positions to scalars."""
        others = [call.leaves[name] for name in self._others]
        uses = [(layer, use) for layer in self.layers for use in call.uses.get(layer, ())]
        end = call.end()
        deltas = pullback(end, np.ones((), end.dtype), [*(use.z for _, use in uses), *others])
        scalars[0] += call.shard.example_weight
        for (layer, use), delta in zip(uses, deltas, strict=False):
            before, mask = TRANSPOSED if use.is_transposed else "", call.masks.get(use.z.created)
            name = f"{before}{INPUTS}/{layer.weight}"
            count = add_inputs(use, bool(layer.bias), call.example_weights, mask, views[name])
            scalars[1 + self._counted.index(name)] += count
            if delta is not None:
                rows = array_of(delta).reshape(-1, use.z.shape[-1])
                views[f"{before}{DELTAS}/{layer.weight}"][...] += rows.T @ rows
        for name, found in zip(self._others, deltas[len(uses) :], strict=True):
            if found is not None:
                views[f"{SQUARES}/{name}"][...] += np.square(array_of(found))

    def _divide(self, vector: Array, scalars: Array) -> None:
        """Divide sums by the numbers of what they are sums of, where this rank owns them."""
        counts = dict(zip(self._counted, scalars[1:], strict=True))
        start = 0
        for name, stop in zip(self._layout.shapes, self._layout.ends, strict=True):
            count = counts.get(name, scalars[0])
            for part in self.space.owned:
                span = slice(max(start, part.start), min(stop, part.stop))
                if span.start < span.stop:
                    vector[span] /= vector.dtype.type(count or 1)
            start = stop

    def free(self) -> None:
        """Give back the memory that ranks share; collective."""
        self._sum.free()
        self.space.free()


class Recorded:
    """A recorded call of the model on the examples of a shard.

    Args:
        objective: model and loss on the ranks.
        sample: the examples.
        number: of the shard.
        rows: which of its examples; by default all.

    Attributes:
        shard: the examples.
        leaves: the parameters by name.
        uses: the sums with a Kronecker form.
        masks: which of their positions hold data.
        example_weights: how much the examples count; None if all count alike.
    """

    def __init__(self, objective: Objective, sample: Sample, number: int, rows: slice = slice(None)):
        self.shard = sample.shards[number].rows(rows)
        self._loss, self._key, self._loss_factors = objective.loss, sample.draw(self.shard), sample.loss_factors
        self.leaves = objective.leaves(sample.weights)
        call = objective.call(self.leaves, self.shard, self._key)
        call.record_neurons = True  # so that layers compute their sums as nodes of their own
        self._outputs = objective.outputs(call, self.shard)
        self.uses: Uses = kronecker_uses(all_of(self._outputs), self.leaves)
        self.masks, self.example_weights = masks_of(call), call.example_weights

    def end(self) -> Tensor:
        """Return the sum of the losses of drawn targets, each times the root of how much it counts in the cost.

        The losses of different elements do not depend on each other. So the gradient of this sum has the Fisher matrix
        as the expectation of its square, as in LossCurvature.signed_gradient().
        """
        seed, step, number = self._key
        numbers = generator(seed, "targets that the model draws", step, number)
        if self._loss_factors is None:
            return drawn_loss_sum(self._loss, self._outputs, self.shard, numbers)
        sums = [
            drawn_loss_sum(
                part.loss, self._outputs[name], self.shard.of_target(name), numbers, self._loss_factors[name]
            )
            for name, part in self._loss.parts.items()
        ]
        total: Tensor = reduce(add, sums)
        return total


def drawn_loss_sum(
    loss: Any, outputs: Value, shard: Shard, numbers: np.random.Generator, factor: float = 1.0
) -> Tensor:
    """Return the sum of the losses of targets that a loss draws, times the roots of weights and factor.

    A loss that draws none takes the targets of the data, with random signs that make its elements independent.

    Args:
        loss: of one target.
        outputs: of the model.
        shard: the examples.
        numbers: the random numbers.
        factor: of all losses.
    """
    if hasattr(loss, "draw"):
        losses, signs = loss(outputs, loss.draw(array_of(outputs), numbers)), 1
    else:
        losses = loss(outputs, shard.targets)
        signs = 2 * numbers.integers(0, 2, losses.shape) - 1
    weights = np.ones(len(losses)) if shard.example_weights is None else shard.example_weights
    averaged = losses.size // max(1, weights.size)
    roots = np.sqrt(weights.astype(np.float64) * factor / averaged)
    roots = roots.reshape(roots.shape + (1,) * (losses.ndim - roots.ndim)) * signs
    total: Tensor = sum_(losses * roots.astype(losses.dtype))
    return total
