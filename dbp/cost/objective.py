"""The cost over all ranks and its derivatives: stages 2 to 5, where derivatives and ranks meet.

cost = sum_i(w_i loss_i) / sum_i(w_i) over all examples i of the mini-batch, however they fall on shards
and ranks; the gradient is exactly that of this cost. An objective is made once for a run; objective.on(batch, step)
is the cost of one mini-batch, which an optimizer asks for values and derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dbp.autodiff import Tensor, Value, array_of, pullback
from dbp.cost.curvature import Curvature, LossCurvature
from dbp.cost.mini_batch import ExampleSums, losses_of, metrics_of
from dbp.data import Scaling
from dbp.nn import Call, Loss, Mixture, Model, RandomKey, RunningMoments, Scope, call_with, moment_sums
from dbp.parallel import Arena, Arriving, Communicator, GradientSum, Layout, PlainSum, Shards, Stage, SumBuffer
from dbp.random import generator
from dbp.reading.shard import Batch, Chunks, Shard
from dbp.types import Array


@dataclass(frozen=True)
class Evaluation:
    """The cost of a mini-batch, its gradient by the flat weights, and the sums behind them.

    Args:
        gradient: of the cost, complete where this rank owns it.
        totals: sums over the examples.
        moments: sums for the running moments.
        finite: True if cost, gradient and moments are finite.
        arriving: the gradient on its way; wait for each part before reading it. None if the gradient is complete.
    """

    gradient: Array
    totals: ExampleSums
    moments: Array
    finite: bool
    arriving: Arriving | None = None

    @property
    def cost(self) -> float:
        """Return the weighted mean of the losses."""
        return self.totals.cost


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
        full_batch: True if every mini-batch holds all examples.
        of_targets: what targets have gone through, which is undone for the metrics.

    Attributes:
        stop_requested: True if a rank has asked all ranks to stop, by a flag that travels with every sum.
    """

    def __init__(
        self,
        model: Model,
        loss: Loss,
        layout: Layout,
        comm: Communicator,
        shards: Shards,
        dtype: np.dtype[Any],
        running: Mapping[str, RunningMoments] | None = None,
        seed: int = 0,
        arena: Arena | None = None,
        messages: str = "full",
        kept: float | None = None,
        full_batch: bool = False,
        of_targets: Scaling | None = None,
    ):
        self.model, self.loss, self.layout, self.shards = model, loss, layout, shards
        self.dtype, self.running, self.seed, self.full_batch = dtype, running or {}, seed, full_batch
        self.stop_requested = False
        self._of_targets = None if of_targets is None or of_targets.is_identity else of_targets
        self.scalars = 2 + len(loss.metrics)  # example weight, loss and metrics
        moments = sum(place.width for place in self.running.values())
        self.arena = arena or Arena(comm, layout, dtype, share=False)
        self.gradients = GradientSum(self.arena, shards, self.scalars + moments, messages, kept)
        self._evaluation = PlainSum(comm, shards, 0, dtype, self.scalars)
        self._is_random = False  # True if a layer has drawn random numbers
        self._leaves: tuple[Array, dict[str, Tensor]] = (np.empty(0), {})
        self._gradient_views: dict[int, tuple[SumBuffer, list[Array]]] = {}

    def on(self, batch: Batch, step: int) -> MiniBatchCost:
        """Return the cost of a mini-batch.

        Args:
            batch: this rank's shards of it.
            step: steps done before, which random numbers depend on.
        """
        return MiniBatchCost(self, batch, step)

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
            parameters: by path.
            shard: the examples.
            draw: random numbers of a training pass; None for the model as in evaluation.
            running: running moments in place of the model's own, by path.
        """
        weights = shard.example_weights if draw else None
        return call_with(parameters, running or self.running, draw, example_weights=weights, mask=shard.mask)

    def forward(self, call: Call, shard: Shard) -> tuple[Value, Value]:
        """Return the model's outputs, and the loss of each example, or of each element of it if these have weights.

        Args:
            call: the parameters and what layers draw and observe.
            shard: the examples.
        """
        outputs = self.model(Scope(call), shard.inputs)
        losses = losses_of(self.loss, outputs, shard, call.mixture)
        self._is_random |= bool(call.drawn)
        return outputs, losses

    def sums(self, losses: Array, outputs: Array, shard: Shard, mixture: Mixture | None = None) -> list[float]:
        """Return the sums of example weights, losses and metrics of some examples, in float64.

        Args:
            losses: as forward() returns them.
            outputs: likewise.
            shard: the examples.
            mixture: how a layer has mixed them; None if none has.
        """
        if self._of_targets is not None:
            outputs, targets = map(self._of_targets.undo, (outputs, shard.targets))
            shard = shard._replace(targets=targets)
        columns = [losses, *metrics_of(self.loss, outputs, shard, mixture)]
        if shard.example_weights is None:
            return [float(len(losses)), *(float(np.add.reduce(c, dtype=np.float64)) for c in columns)]
        example_weights = shard.example_weights.astype(np.float64)
        return [float(example_weights.sum()), *(float(np.sum(c * example_weights)) for c in columns)]

    def leaves(self, weights: Array) -> dict[str, Tensor]:
        """Return the parameters as leaves of a graph; made once for a vector, as they are views of it."""
        if self._leaves[0] is not weights:
            self._leaves = weights, {name: Tensor(view) for name, view in self.layout.views(weights).items()}
        return self._leaves[1]

    def gradient_views(self, sums: SumBuffer) -> list[Array]:
        """Return the parameters' gradients in a buffer; made once for a buffer, as there are few of them."""
        if id(sums) not in self._gradient_views:
            views = self.layout.views(sums.vector, writable=True)
            self._gradient_views[id(sums)] = sums, list(views.values())
        return self._gradient_views[id(sums)][1]

    # --- any number of examples -------------------------------------------------------------------------

    def evaluate(
        self, weights: Array, chunks: Chunks, running: Mapping[str, RunningMoments] | None = None
    ) -> ExampleSums:
        """Return cost and metrics of any number of examples, without gradients; collective.

        Args:
            weights: the flat weights.
            chunks: yields the examples of a shard, by its number, in chunks.
            running: running moments in place of the model's own, by path.
        """
        totals = self.totals(weights, chunks, Stage.EVALUATION, running=running)
        self.arena.comm.clock.enter(Stage.OTHER)
        return totals

    def totals(
        self,
        weights: Array,
        chunks: Chunks,
        stage: Stage,
        draw: Callable[[Shard], RandomKey] | None = None,
        running: Mapping[str, RunningMoments] | None = None,
    ) -> ExampleSums:
        """Return cost and metrics of the examples that chunks yields; collective.

        Args:
            weights: the flat weights.
            chunks: yields the examples of a shard, by its number, in chunks.
            stage: that the time counts for.
            draw: random numbers of a training pass; None for the model as in evaluation.
            running: running moments in place of the model's own, by path.
        """
        clock = self.arena.comm.clock
        clock.enter(stage)
        self.arena.fence(weights)
        parameters = self.layout.views(weights)
        tree = self._evaluation.start()
        for number in self.shards.mine:
            sums = self._evaluation.buffer()
            sums.scalars[:] = 0
            for chunk in chunks(number):
                clock.enter(stage)
                call = self.call(parameters, chunk, draw(chunk) if draw else None, running)
                outputs, losses = self.forward(call, chunk)
                sums.scalars += self.sums(array_of(losses), array_of(outputs), chunk, call.mixture)
            tree.push(0, number, sums)
        total = self._evaluation.total(tree)
        self.stop_requested |= total.stop_requested
        return _totals(total.scalars)

    def evaluated_curvature(self, weights: Array, chunks: Chunks) -> Curvature:
        """Return the second derivatives of the cost of any number of examples, the model as in evaluation; collective.

        Args:
            weights: the flat weights, which must not change.
            chunks: yields the examples of a shard, by its number, in chunks; each product goes through them anew.
        """
        self.arena.fence(weights)
        at = self.layout.views(weights)
        return self.curvature(lambda number: (self.loss_curvature(at, chunk.rows(...)) for chunk in chunks(number)))

    def curvature(self, examples: Callable[[int], Iterable[LossCurvature]]) -> Curvature:
        """Return the second derivatives of the cost of some examples, by the number of a shard."""
        return Curvature(examples, self.arena, self.shards, self.gradients.vector_sum)

    def loss_curvature(self, at: Mapping[str, Array], shard: Shard, draw: RandomKey | None = None) -> LossCurvature:
        """Return the derivatives of a shard's loss sum.

        Args:
            at: the parameters.
            shard: the examples.
            draw: random numbers of a training pass; None for the model as in evaluation.
        """
        mixtures: list[Mixture | None] = [None]  # that of the last call, the same in each as its draws are

        def outputs(parameters: Mapping[str, Value]) -> Value:
            call = self.call(parameters, shard, draw)
            found = self.model(Scope(call), shard.inputs)
            mixtures[0] = call.mixture
            return found

        return LossCurvature(
            outputs=outputs,
            losses=lambda outputs: losses_of(self.loss, outputs, shard, mixtures[0]),
            example_weights=shard.example_weights,
            at=at,
            count=len(shard.inputs),
            draw=draw or (0, 0, 0),
        )

    def free(self) -> None:
        """Give back the memory that ranks share; collective. Weights and gradients must not be used any more."""
        self.gradients.free()
        self.arena.free()


@dataclass(frozen=True)
class MiniBatchCost:
    """The cost of one mini-batch as a function of the flat weights: the MiniBatchCost of optim/protocols.py.

    All methods but draw() are collective, and return the same on every rank.

    Args:
        objective: model and loss on the ranks.
        batch: this rank's shards of the mini-batch.
        step: steps done before, which random numbers depend on.
    """

    objective: Objective
    batch: Batch
    step: int

    @property
    def space(self) -> Arena:
        """Return the space that the weights lie in."""
        return self.objective.arena

    @property
    def root(self) -> Arena:
        """Return the means by which one rank computes for all."""
        return self.objective.arena

    @property
    def is_deterministic(self) -> bool:
        """Return True if this is the same function at every step."""
        return self.objective.is_deterministic

    def draw(self, shard: Shard) -> RandomKey:
        """Return the key of the random numbers that a shard draws in this step."""
        return RandomKey(self.objective.seed, self.step, shard.number)

    def value(self, weights: Array) -> float:
        """Return the cost, the same to the last bit as that of value_and_gradient()."""
        filled = {shard.number: [shard] if len(shard.inputs) else [] for shard in self.batch}
        total = self.objective.totals(weights, filled.__getitem__, Stage.FORWARD, self.draw)
        self.objective.arena.comm.clock.enter(Stage.UPDATE)
        return total.cost

    def value_and_gradient(self, weights: Array, early: bool = False) -> Evaluation:
        """Return the cost and its gradient, which is valid until the next call.

        Args:
            weights: the flat weights.
            early: return before the gradient is complete, if that is possible; the caller waits part by part.
        """
        objective, gradients = self.objective, self.objective.gradients
        clock = objective.arena.comm.clock
        objective.arena.fence(weights)
        gradients.start(shard.example_weight for shard in self.batch)
        for shard in self.batch:
            sums = gradients.buffer()
            self._write_gradient(weights, shard, sums, last=shard is self.batch[-1])  # 2 forward, 3 loss, 4 backward
            gradients.push(shard.number, sums)
        clock.enter(Stage.SUM)
        total = gradients.total(early)  # 5 sum
        clock.enter(Stage.UPDATE)
        objective.stop_requested |= total.stop_requested
        totals = _totals(total.scalars[: objective.scalars])
        moments = total.scalars[objective.scalars :].copy()
        finite = total.finite and math.isfinite(totals.loss)
        if objective.running:
            finite = finite and bool(np.isfinite(moments).all())
        if not finite:
            gradients.reject()
            return Evaluation(total.vector, totals, moments, finite=False)
        gradients.accept()
        return Evaluation(total.vector, totals, moments, finite=True, arriving=total.arriving)

    def _write_gradient(self, weights: Array, shard: Shard, sums: SumBuffer, last: bool) -> None:
        """Write the gradient of a shard's loss sum, and its sums, to a buffer: zeros for a shard without examples."""
        if len(shard.inputs) == 0:
            sums.bytes[:] = 0
            return
        objective = self.objective
        clock, leaves = objective.arena.comm.clock, objective.leaves(weights)
        call = objective.call(leaves, shard, self.draw(shard))
        clock.enter(Stage.FORWARD)
        outputs, losses = objective.forward(call, shard)  # 2 forward, 3 loss
        clock.enter(Stage.BACKWARD)
        cotangent = shard.example_weights
        if cotangent is None:
            cotangent = np.ones(len(shard.inputs), objective.dtype)
        on_ready = objective.gradients.on_ready(objective.layout) if last else None
        into = objective.gradient_views(sums)
        pullback(losses, cotangent, list(leaves.values()), into=into, on_ready=on_ready)  # 4 backward
        sums.scalars[: objective.scalars] = objective.sums(losses.value, outputs.value, shard, call.mixture)
        if objective.running:
            sums.scalars[objective.scalars :] = np.concatenate(moment_sums(objective.running, call.observed))

    def curvature(self, weights: Array, part: float = 1.0) -> Curvature:
        """Return the second derivatives at weights that must not change.

        Each rank keeps what its shards have computed for as long as the result lives. In the products dropout is
        that of this step, and normalization that of training.

        Args:
            weights: the flat weights.
            part: the fraction of each shard's examples that is used.
        """
        objective = self.objective
        objective.arena.fence(weights)
        at = objective.layout.views(weights)
        chosen = {s.number: s.rows(self._window(len(s.inputs), part)) for s in self.batch if len(s.inputs)}
        losses = {number: [objective.loss_curvature(at, shard, self.draw(shard))] for number, shard in chosen.items()}
        return objective.curvature(lambda number: losses.get(number, []))

    def _window(self, count: int, part: float) -> Any:
        """Return the indices of the examples of a shard that are used: the first ones, as batches are shuffled.

        A full batch is always the same, so there different steps use different examples.
        """
        size, first = math.ceil(part * count), 0
        if self.objective.full_batch and size < count:
            first = int(generator(self.objective.seed, "part of the batch", self.step).random() * count)
        return slice(first, first + size) if first + size <= count else np.arange(first, first + size) % count


def _totals(scalars: Array) -> ExampleSums:
    example_weight, loss, *metrics = scalars.tolist()
    return ExampleSums(example_weight, loss, tuple(metrics))
