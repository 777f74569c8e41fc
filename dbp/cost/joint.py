"""The cost of several targets: the factors of their losses, and what is summed over the examples of a shard.

cost = sum_t(c_t L_t / W_t), with the weight c_t of a target's loss, the weighted sum L_t of its losses and the sum W_t
of its example weights, over all examples of the mini-batch. All sums are divided by the number of examples N, as those
of a single target are by its weights; so each target's losses get the factor c_t N / W_t. The sums W_t over all shards
are needed before any derivative; they take one small sum along the tree of shards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from dbp.autodiff import Value, concatenate, reshape, sum_
from dbp.cost.curvature import LossCurvature
from dbp.cost.mini_batch import losses_of, weighted_sums
from dbp.data import Scaling
from dbp.metrics.joint import JointMetrics
from dbp.metrics.metric_set import MetricSet
from dbp.metrics.predictions import Predictions
from dbp.named_arrays import first_of
from dbp.nn import JointLoss, Mixture
from dbp.parallel import PlainSum, Shards
from dbp.reading.shard import Shard
from dbp.types import Array, Shape

LossFactors = Mapping[str, float]  # of the losses of each target


class JointCost:
    """What an Objective does with several targets.

    Args:
        loss: of the targets.
        target_scaling: of the targets, by name, which is undone for the metrics.
        are_weighted: whether any target may have example weights.
    """

    def __init__(self, loss: JointLoss, target_scaling: Mapping[str, Scaling], are_weighted: bool):
        self.loss, self._target_scaling, self.are_weighted = loss, target_scaling, are_weighted

    def metrics(self) -> JointMetrics:
        """Return the parts of the cost, without other metrics."""
        return JointMetrics({name: MetricSet() for name in self.loss.parts}, self.loss.weights)

    def loss_factors(
        self, plain_sum: PlainSum, shards: Shards, examples: Callable[[int], Iterable[Shard]]
    ) -> tuple[LossFactors, bool]:
        """Return the factor of each target's losses, and whether a rank has asked to stop; collective.

        Args:
            plain_sum: sums one more scalar than there are targets.
            shards: of this rank.
            examples: yields the examples of a shard, by its number.
        """
        parts = self.loss.parts
        if not self.are_weighted:
            return {name: part.weight for name, part in parts.items()}, False
        tree = plain_sum.start()
        for number in shards.mine:
            sums = plain_sum.buffer()
            sums.scalars[:] = 0
            for shard in examples(number):
                sums.scalars += [shard.count, *(shard.of_target(name).example_weight for name in parts)]
            tree.push(0, number, sums)
        total = plain_sum.total(tree)
        count, *weights = total.scalars.tolist()
        pairs = zip(parts.items(), weights, strict=True)
        loss_factors = {name: part.weight * count / weight if weight else 0.0 for (name, part), weight in pairs}
        return loss_factors, total.stop_requested

    def sums(
        self,
        losses: Mapping[str, Array],
        outputs: Mapping[str, Array],
        shard: Shard,
        metrics: Any,
        mixture: Mixture | None = None,
        use: Callable[[Any], None] | None = None,
    ) -> Array:
        """Return the number of examples, the weighted sum of losses, and the sums of JointMetrics, in float64.

        Args:
            losses: by target, as losses_of() returns them.
            outputs: by name.
            shard: the examples.
            metrics: the JointMetrics.
            mixture: how a layer has mixed the examples; None if none has.
            use: called with the predictions by target, in the units of the data.
        """
        sums, found = np.zeros(2 + metrics.width), {}
        sums[0] = shard.count
        for (name, one), by in zip(losses.items(), metrics.target_weights, strict=True):
            alone = shard.of_target(name)
            pair = weighted_sums(one, alone.example_weights)
            sums[1] += by * pair[1]
            if metrics.sets[name].width or use is not None:
                scaling = self._target_scaling.get(name, Scaling())
                given = (scaling.undo(outputs[name]), scaling.undo(alone.targets))
                found[name] = Predictions(*given, alone.example_weights)
            metrics.write_part(sums[2:], name, pair, found.get(name), mixture)
        if use is not None:
            use(found)
        return sums

    def curvature(
        self,
        outputs: Callable[[Any], tuple[Mapping[str, Value], Mixture | None]],
        at: Mapping[str, Array],
        shard: Shard,
        draw: tuple[int, int, int],
        loss_factors: LossFactors,
    ) -> LossCurvature:
        """Return the derivatives of the weighted sum of a shard's losses.

        Args:
            outputs: computes the outputs by name from the parameters, and says how examples have been mixed.
            at: the parameters.
            shard: the examples.
            draw: seed, step and shard, which random signs depend on.
            loss_factors: of the losses of each target.
        """
        flat = _FlatOutputs(self.loss, outputs, shard)
        found = []
        for name, factor in loss_factors.items():
            weights = shard.of_target(name).example_weights
            wide = np.ones(shard.count) if weights is None else weights.astype(np.float64)
            found.append((wide * factor).reshape(-1))
        weights = np.concatenate(found).astype(next(iter(at.values())).dtype)
        count = shard.count
        return LossCurvature(flat.outputs, flat.losses, weights, at, count, draw, float(count))


class _FlatOutputs:
    """The outputs of all targets side by side, and their losses likewise, as LossCurvature takes them.

    Args:
        loss: of the targets.
        outputs: computes the outputs by name from the parameters, and says how examples have been mixed.
        shard: the examples.
    """

    def __init__(
        self, loss: JointLoss, outputs: Callable[[Any], tuple[Mapping[str, Value], Mixture | None]], shard: Shard
    ):
        self._loss, self._outputs_of, self._shard = loss, outputs, shard
        self._shapes: dict[str, Shape] = {}  # of the outputs, known once they have been computed
        self._mixture: Mixture | None = None

    def outputs(self, parameters: Any) -> Value:
        """Return the outputs of all targets one after the other, along one axis."""
        found, self._mixture = self._outputs_of(parameters)
        chosen = {name: found[name] for name in self._loss.parts}
        self._shapes = {name: tuple(np.shape(output)) for name, output in chosen.items()}
        return concatenate(*(reshape(output, shape=(-1,)) for output in chosen.values()))

    def losses(self, outputs: Value) -> Value:
        """Return the losses of all targets one after the other, given the outputs likewise."""
        given, start = {}, 0
        for name, shape in self._shapes.items():
            size = int(np.prod(shape))
            given[name], start = reshape(outputs[start : start + size], shape=shape), start + size
        found = losses_of(self._loss, given, self._shard, self._mixture)
        return concatenate(*(reshape(one, shape=(-1,)) for one in found.values()))


def loss_sum(losses: Mapping[str, Value], shard: Shard, loss_factors: LossFactors) -> Value:
    """Return the sum of the losses of all targets, each with its weights and its factor; 0.0 if none counts."""
    parts = []
    for name, factor in loss_factors.items():
        weights = shard.of_target(name).example_weights
        if weights is None:
            parts.append(sum_(losses[name]) * factor)
        elif factor:
            scaled = (weights.astype(np.float64) * factor).astype(weights.dtype)
            parts.append(sum_(losses[name] * scaled))
    return reduce(add, parts) if parts else 0.0


def layer_weights(shard: Shard) -> Array | None:
    """Return how much the examples of a shard count for layers that take their moments; None if all count alike.

    Those of a single target are its weights. Of several targets, an example counts, once, unless all its weights are 0.
    """
    weights: Any = shard.example_weights
    if len(shard.targets) == 1:
        return first_of(weights)  # type: ignore[no-any-return]
    if weights.keys() != shard.targets.keys():
        return None
    found = [(one != 0).reshape(len(one), -1).any(axis=1) for one in weights.values()]
    counts: Array = np.logical_or.reduce(found)
    return counts.astype(first_of(weights).dtype)
