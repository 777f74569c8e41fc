"""The model and its loss on all ranks, and their cost and metrics over any examples.

cost = sum_i(w_i loss_i) / sum_i(w_i) over all examples i, however they fall on shards and ranks. An objective is made
once for a run; MiniBatchCost (mini_batch_cost.py) is its cost of one mini-batch, with derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from dbp.autodiff import Tensor, Value, array_of
from dbp.cost.mini_batch import ExampleSums, losses_of, weighted_sums
from dbp.cost.planned_passes import PlannedPasses, is_fixed
from dbp.data import Scaling
from dbp.metrics.metric_set import MetricSet
from dbp.metrics.predictions import Predictions
from dbp.named_arrays import each
from dbp.nn import Call, JointLoss, Mixture, Model, Prepared, RandomKey, RunningMoments, Scope, call_with
from dbp.parallel import (
    Arena,
    Communicator,
    GradientSum,
    Layout,
    PlainSum,
    ShardAllreduce,
    Shards,
    Stage,
    SumBuffer,
    passes,
)
from dbp.reading.shard import Chunks, Shard
from dbp.types import Array

if TYPE_CHECKING:
    from dbp.cost.joint import JointCost, LossFactors
    from dbp.cost.row_gradients import RowGradients, RowLookups  # which few runs need


class Objective:
    """The model and its loss on the ranks of a run: the source of the cost of a mini-batch or of any examples.

    Args:
        model: called on a scope and a shard's inputs.
        loss: of each example.
        layout: where the parameters lie in the flat vector.
        comm: the ranks.
        shards: who computes which part of the mini-batch.
        dtype: of weights and gradient.
        running: the model's running moments, by path.
        seed: of the random numbers that layers such as dropout draw.
        arena: where the weights lie; by default every rank has its own.
        messages: the form in which gradients travel between nodes; see GradientSum.
        kept: the fraction of a gradient's elements that is sent, if not all are.
        steps_per_epoch: the mini-batches that together hold every example once; 0 if that is not known.
        target_scaling: of the targets, by name if there are several, which is undone for the metrics.
        metrics: those of training, summed with every gradient; by default there are none.
        frozen: parameters that are not in the layout, as they are constant: by path.
        are_weighted: whether any of several targets may have example weights.

    Attributes:
        stop_requested: True if a rank has asked all ranks to stop, by a flag that travels with every sum.
        planned: the training passes that are planned.
        allreduce: sums over all shards within their training passes, which passes() then starts; None if no layer does.
    """

    def __init__(
        self,
        model: Model,
        loss: Any,
        layout: Layout,
        comm: Communicator,
        shards: Shards,
        dtype: np.dtype[Any],
        running: Mapping[str, RunningMoments] | None = None,
        seed: int = 0,
        arena: Arena | None = None,
        messages: str = "full",
        kept: float | None = None,
        steps_per_epoch: int = 0,
        target_scaling: Any = None,
        metrics: MetricSet | None = None,
        frozen: Mapping[str, Array] | None = None,
        are_weighted: bool = True,
    ):
        self.frozen = frozen or {}
        self.model, self.loss, self.layout, self.shards = model, loss, layout, shards
        self.dtype, self.running, self.seed, self.steps_per_epoch = dtype, running or {}, seed, steps_per_epoch
        self.stop_requested = False
        self.joint: JointCost | None = None
        if isinstance(loss, JointLoss):
            from dbp.cost.joint import JointCost  # which no other run needs

            self.joint = JointCost(loss, target_scaling or {}, are_weighted)
        is_scaled = isinstance(target_scaling, Scaling) and not target_scaling.is_identity
        self._target_scaling: Scaling | None = target_scaling if is_scaled else None
        none = MetricSet() if self.joint is None else self.joint.metrics()
        self.metrics = none if metrics is None else metrics
        self.scalars = 2 + self.metrics.width  # example weight, loss and metrics
        moment_sums = sum(moments.width for moments in self.running.values())
        self.arena = arena or Arena(comm, layout, dtype, share=False)
        self.allreduce = ShardAllreduce(comm, shards) if any(m.over_shards for m in self.running.values()) else None
        self._gradient_options = self.scalars + moment_sums, messages, kept
        self.row_gradients: RowGradients | None = None
        if layout.tables:
            from dbp.cost.row_gradients import RowGradients

            self.row_gradients = RowGradients(self.arena, shards)
        if arena is not None:  # that of a run, whose first step needs the sum; making it is collective
            _ = self.gradients
        is_plannable = not (self.allreduce or self.joint or layout.tables) and is_fixed((model, loss))
        self.planned = PlannedPasses(is_plannable, [*self.frozen.values()])
        self._plain_sums: dict[int, PlainSum] = {}  # by their number of scalars
        self._is_random = False  # True if a layer has drawn random numbers
        self._leaves: tuple[Array, dict[str, Tensor]] = (np.empty(0), {})
        self._gradient_views: dict[int, tuple[SumBuffer, list[Array]]] = {}
        self.made_once: dict[str, Any] = {}  # objects with free() that mini-batches make once, by name

    @cached_property
    def gradients(self) -> GradientSum:
        """Return the sum of gradients over all shards; made at its first use, as evaluation has none; collective."""
        return GradientSum(self.arena.dense, self.shards, *self._gradient_options)

    @property
    def full_batch(self) -> bool:
        """Return True if every mini-batch holds all examples."""
        return self.steps_per_epoch == 1

    @property
    def is_deterministic(self) -> bool:
        """Return True if the cost is the same function at every step."""
        return self.full_batch and not self._is_random

    def call(
        self,
        parameters: Mapping[str, Value],
        shard: Shard,
        draw: RandomKey | None,
        running: Mapping[str, RunningMoments] | None = None,
    ) -> Call:
        """Return a call of the model on a shard's examples, whose weights layers learn of in training.

        Evaluation does without, as prediction does.

        Args:
            parameters: those of the layout, by path.
            shard: the examples.
            draw: random numbers of a training pass; None for the model as in evaluation.
            running: running moments in place of the model's own, by path.
        """
        parameters = self.with_frozen(parameters)
        weights = shard.example_weights if draw else None
        if isinstance(weights, dict):
            from dbp.cost.joint import layer_weights

            weights = layer_weights(shard)
        call = call_with(parameters, running or self.running, draw, example_weights=weights, mask=shard.mask)
        call.sum_over_shards = None if self.allreduce is None else self.allreduce.sum
        return call

    def with_frozen(self, parameters: Mapping[str, Value]) -> Mapping[str, Value]:
        """Return all parameters of the model by path, given those of the layout."""
        return {**self.frozen, **parameters} if self.frozen else parameters

    def forward(self, call: Call, shard: Shard) -> tuple[Any, Any]:
        """Return the model's outputs, and the loss of each example, or of each element of it if these have weights.

        Of several targets, both are by name.

        Args:
            call: the parameters and what layers draw and observe.
            shard: the examples.
        """
        outputs = self.outputs(call, shard)
        losses = losses_of(self.loss, outputs, shard, call.mixture)
        self._is_random |= bool(call.generator_counts)
        return outputs, losses

    def outputs(self, call: Call, shard: Shard) -> Any:
        """Return the model's outputs for some examples; by name where targets have names."""
        found = self.model(Scope(call), shard.inputs)
        return found if self.joint is None else self.joint.loss.named(found)

    def sums(
        self,
        losses: Any,
        outputs: Any,
        shard: Shard,
        mixture: Mixture | None = None,
        metrics: MetricSet | None = None,
        use: Callable[[Any], None] | None = None,
    ) -> Array:
        """Return the sums of example weights, losses and metrics of some examples, in float64.

        Args:
            losses: as forward() returns them, as arrays.
            outputs: likewise.
            shard: the examples.
            mixture: how a layer has mixed them; None if none has.
            metrics: by default those of training.
            use: called with the predictions, in the units of the data; of several targets, by name.
        """
        metrics = self.metrics if metrics is None else metrics
        if self.joint is not None:
            return self.joint.sums(losses, outputs, shard, metrics, mixture, use)
        sums, weights = np.empty(2 + metrics.width), shard.example_weights
        sums[0], sums[1] = weighted_sums(losses, weights)
        if metrics.width or use is not None:
            targets = shard.targets
            if self._target_scaling is not None:
                outputs, targets = map(self._target_scaling.undo, (outputs, targets))
            found = Predictions(outputs, targets, weights)
            metrics.write_sums(sums[2:], found, mixture)
            if use is not None:
                use(found)
        return sums

    def loss_factors(self, examples: Chunks) -> LossFactors:
        """Return the factor of each of several targets' losses in the cost of some examples; collective.

        Args:
            examples: yields the examples of a shard, by its number.
        """
        assert self.joint is not None
        plain_sum = self._plain_sum(1 + len(self.joint.loss.parts))
        found, stop_requested = self.joint.loss_factors(plain_sum, self.shards, examples)
        self.stop_requested |= stop_requested
        return found

    def _plain_sum(self, scalars: int) -> PlainSum:
        """Return the sum over all shards of so many scalars alone."""
        if scalars not in self._plain_sums:
            self._plain_sums[scalars] = PlainSum(self.arena.comm, self.shards, 0, self.dtype, scalars)
        return self._plain_sums[scalars]

    def leaves(self, weights: Array) -> dict[str, Tensor]:
        """Return the parameters as leaves of a graph; made once for a vector, as they are views of it.

        Tables are none, as the rows that are looked up are: see cost/row_gradients.py.
        """
        if self._leaves[0] is not weights:
            self._leaves = weights, {name: Tensor(view) for name, view in self.layout.dense.views(weights).items()}
        return self._leaves[1]

    def row_lookups(self, weights: Array, shard: int) -> RowLookups | None:
        """Return what looks up rows of tables in the pass of a shard; None if there are no tables."""
        return None if self.row_gradients is None else self.row_gradients.lookups(weights, shard)

    def gradient_views(self, sums: SumBuffer) -> list[Array]:
        """Return the parameters' gradients in a buffer; made once for a buffer, as there are few of them."""
        if id(sums) not in self._gradient_views:
            views = self.layout.dense.views(sums.vector, writable=True)
            self._gradient_views[id(sums)] = sums, list(views.values())
        return self._gradient_views[id(sums)][1]

    # --- any number of examples -------------------------------------------------------------------------

    def evaluate(
        self,
        weights: Array | Mapping[str, Array],
        chunks: Chunks,
        running: Mapping[str, RunningMoments] | None = None,
        metrics: MetricSet | None = None,
        use: Callable[[Any], None] | None = None,
    ) -> ExampleSums:
        """Return cost and metrics of any number of examples, without gradients; collective.

        Args:
            weights: the flat weights, or the parameters by path.
            chunks: yields the examples of a shard, by its number, in chunks.
            running: running moments in place of the model's own, by path.
            metrics: by default those of training.
            use: called with the predictions of each chunk.
        """
        totals = self.totals(weights, chunks, Stage.EVALUATION, metrics or self.metrics, running=running, use=use)
        self.arena.comm.clock.enter(Stage.OTHER)
        return totals

    def totals(
        self,
        weights: Array | Mapping[str, Array],
        chunks: Chunks,
        stage: Stage,
        metrics: MetricSet,
        draw: Callable[[Shard], RandomKey] | None = None,
        running: Mapping[str, RunningMoments] | None = None,
        use: Callable[[Any], None] | None = None,
    ) -> ExampleSums:
        """Return cost and metrics of the examples that chunks yields; collective.

        Args:
            weights: the flat weights, or the parameters by path.
            chunks: yields the examples of a shard, by its number, in chunks.
            stage: that the time counts for.
            metrics: to sum.
            draw: random numbers of a training pass; None for the model as in evaluation.
            running: running moments in place of the model's own, by path.
            use: called with the predictions of each chunk.
        """
        clock = self.arena.comm.clock
        clock.enter(stage)
        if not isinstance(weights, Mapping):
            self.arena.fence(weights)
            weights = self.layout.views(weights)
        plain_sum, prepared = self._plain_sum(2 + metrics.width), Prepared()
        tree = plain_sum.start()

        def sums_of(number: int) -> SumBuffer:
            sums = plain_sum.buffer()
            sums.scalars[:] = 0
            for chunk in chunks(number):
                clock.enter(stage)
                call = self.call(weights, chunk, draw(chunk) if draw else None, running)
                call.prepared = prepared
                outputs, losses = self.forward(call, chunk)
                arrays = each(array_of, losses), each(array_of, outputs)
                sums.scalars += self.sums(*arrays, chunk, call.mixture, metrics, use)
            return sums

        for number, sums in passes(self.shards, sums_of, self.allreduce if draw else None):
            tree.push(0, number, sums)
        total = plain_sum.total(tree)
        self.stop_requested |= total.stop_requested
        return ExampleSums.of(total.scalars, metrics.target_weights)

    def free(self) -> None:
        """Give back the memory that ranks share; collective. Weights and gradients must not be used any more."""
        if self.allreduce is not None:
            self.allreduce.free()
        for made in self.made_once.values():
            made.free()
        if self.row_gradients is not None:
            self.row_gradients.free()
        if "gradients" in vars(self):  # they are made at their first use
            self.gradients.free()
        self.arena.free()
