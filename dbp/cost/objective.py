"""The cost over all ranks and its derivatives: stages 2 to 5, where derivatives and ranks meet.

cost = sum_i(w_i loss_i) / sum_i(w_i) over all examples i of the mini-batch, however they fall on shards
and ranks; the gradient is exactly that of this cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dbp.autodiff import Tensor, Value, array_of, mean, pullback
from dbp.cost.curvature import Curvature, Curved
from dbp.nn import Call, Draw, Loss, Model, RunningMoments, Scope, all_sums, call_with, read_only, use
from dbp.parallel import (
    Arena,
    Arriving,
    Communicator,
    Layout,
    Reduction,
    Shards,
    Sums,
    Unsent,
    Vectors,
    reduction_for,
    wire_for,
)
from dbp.parallel.ranks import clock as stages
from dbp.random import generator
from dbp.types import Array


class Shard(NamedTuple):
    """The examples of one shard, ready for the model; weights, of examples or of places, are None where all are 1."""

    number: int
    inputs: Array
    targets: Array
    weights: Array | None

    def rows(self, which: Any) -> Shard:
        """Some of the examples, in arrays that nobody may change."""
        arrays = (None if array is None else array[which] for array in self[1:])
        inputs, targets, weights = (None if array is None else read_only(array) for array in arrays)
        return Shard(self.number, inputs, targets, weights)  # type: ignore[arg-type]


Chunks = Callable[[int], Iterable[Shard]]  # the examples of a shard, by its number, in pieces that bound the memory


@dataclass(frozen=True)
class Totals:
    """Sums over examples: of weights, of weighted losses, of weighted metrics."""

    weight: float
    loss: float
    metrics: tuple[float, ...]

    @property
    def cost(self) -> float:
        """The weighted mean of the losses; zero for no weight at all."""
        return self.loss / self.weight if self.weight else 0.0

    def __add__(self, other: Totals) -> Totals:
        metrics = tuple(a + b for a, b in zip(self.metrics, other.metrics, strict=True))
        return Totals(self.weight + other.weight, self.loss + other.loss, metrics)

    def means(self, names: tuple[str, ...]) -> dict[str, float]:
        """The cost and the weighted means of the metrics, by name."""
        weight = self.weight or 1.0
        return {"cost": self.cost, **{n: m / weight for n, m in zip(names, self.metrics, strict=True)}}


@dataclass(frozen=True)
class Evaluation:
    """The cost of a mini-batch, its gradient by the flat weights, and the sums behind them."""

    gradient: Array
    totals: Totals
    moments: Array  # sums for the running moments
    finite: bool  # whether cost, gradient and those sums are numbers
    arriving: Arriving | None = None  # what to wait for before the gradient is read, unless it is all there

    @property
    def cost(self) -> float:
        """The weighted mean of the losses."""
        return self.totals.cost


class Objective:
    """The cost as a function of the flat weights, over the shards of the current mini-batch.

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
        messages: the form in which gradients travel between nodes.
        kept: the part of a message's numbers that is sent, if not all are.
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
    ):
        self.model, self.loss, self.layout, self.shards = model, loss, layout, shards
        self.dtype, self.running, self._seed = dtype, running or {}, seed
        self.batch: list[Shard] = []
        self.whole = False  # whether that is all examples, at every step
        self.step = 0  # steps done so far, on which random numbers depend
        self.asked = False  # whether a rank has asked for something since this was set
        self._random = False  # whether a layer has drawn any
        self._scalars = scalars = 2 + len(loss.metrics)
        moments = sum(place.width for place in self.running.values())
        self.arena = arena or Arena(comm, layout.size, dtype, share=False)
        self.space = Vectors(self.arena, layout)
        self.unsent = Unsent(self.arena)
        wire = wire_for(messages, kept, self.unsent)
        self._reduction = reduction_for(self.arena, shards, scalars + moments, wire)
        self._evaluation = Reduction(comm, shards, 0, dtype, scalars)
        self._leaves_of: tuple[Array, dict[str, Tensor]] = (np.empty(0), {})
        self._gradients_in: dict[int, tuple[Sums, list[Array]]] = {}

    def value_and_gradient(self, weights: Array, early: bool = False) -> Evaluation:
        """The cost of the current mini-batch and its gradient; collective, the same on every rank.

        The gradient is valid until the next call.

        Args:
            weights: the flat weights.
            early: whether the gradient may still be arriving. Not where ranks can outlive others: the longer a change
                of the weights takes, the more often a death leaves them half changed.
        """
        early = early and not (self.unsent.pending or self.arena.comm.survives)
        clock = self.arena.comm.stages
        self.arena.fence(weights)
        if self.unsent.used:
            self.unsent.begin(self._weight())
        tree = self._reduction.start()
        for shard in self.batch:
            sums = self._reduction.buffer()
            self._add_gradient(weights, shard, sums, last=shard is self.batch[-1])
            tree.push(0, shard.number, sums)
        clock.enter(stages.SUM)
        total = self._reduction.total(tree, divisor=0, early=early)
        clock.enter(stages.UPDATE)
        self.unsent.complete(total.vector)
        self.asked |= total.asked
        totals = _totals(total.scalars[: self._scalars])
        moments = total.scalars[self._scalars :].copy()
        finite = total.finite and math.isfinite(totals.loss)
        if self.running:
            finite = finite and bool(np.isfinite(moments).all())
        if finite:
            self.unsent.accept()
        elif total.arriving is not None:
            total.arriving.complete()
        return Evaluation(total.vector, totals, moments, finite, total.arriving if finite else None)

    def _weight(self) -> float:
        """The weight of all examples of the mini-batch, on every rank."""
        tree = self._evaluation.start()
        for shard in self.batch:
            sums = self._evaluation.buffer()
            sums.scalars[:] = 0
            sums.scalars[0] = len(shard.inputs) if shard.weights is None else shard.weights.sum(dtype=np.float64)
            tree.push(0, shard.number, sums)
        return float(self._evaluation.total(tree).scalars[0])

    @property
    def lasting(self) -> bool:
        """Whether this is the same function at every step."""
        return self.whole and not self._random

    def _add_gradient(self, weights: Array, shard: Shard, sums: Sums, last: bool) -> None:
        """The gradient of the shard's loss sum, and its sums; zero for a shard without examples."""
        if len(shard.inputs) == 0:
            sums.bytes[:] = 0
            return
        leaves = self._leaves(weights)
        call = call_with(leaves, self.running, self.draw(shard))
        clock = self.arena.comm.stages
        clock.enter(stages.FORWARD)
        outputs, losses = self._losses(call, shard)
        self._random |= bool(call.drawn)
        clock.enter(stages.BACKWARD)
        ones = np.ones(len(shard.inputs), self.dtype)
        cotangent = ones if shard.weights is None else shard.weights
        on_ready = self._progress() if last and self._reduction.early else None
        pullback(losses, cotangent, list(leaves.values()), into=self._gradients(sums), on_ready=on_ready)
        sums.scalars[: self._scalars] = self._sums(losses.value, outputs.value, shard)
        if self.running:
            sums.scalars[self._scalars :] = np.concatenate(all_sums(self.running, call.observed))

    def draw(self, shard: Shard) -> Draw:
        """Which random numbers a shard draws in this step."""
        return Draw(self._seed, self.step, shard.number)

    def _leaves(self, weights: Array) -> dict[str, Tensor]:
        """The parameters; made once for a vector, as they are views of it."""
        if self._leaves_of[0] is not weights:
            self._leaves_of = weights, {name: Tensor(view) for name, view in self.layout.views(weights).items()}
        return self._leaves_of[1]

    def _gradients(self, sums: Sums) -> list[Array]:
        """The gradients by the parameters in a buffer, of which there are few, each used again and again."""
        if id(sums) not in self._gradients_in:
            views = self.layout.views(sums.vector, writable=True)
            self._gradients_in[id(sums)] = sums, list(views.values())
        return self._gradients_in[id(sums)][1]

    def _progress(self) -> Callable[[int, int], None]:
        """What is told from which element on a parameter's gradient is complete, and tells the reduction how far it is.

        It is given the parameter's number.
        """
        waiting, ends = set(range(len(self.layout.shapes))), self.layout.ends

        def on_ready(number: int, start: int) -> None:
            last = max(waiting, default=None)
            if start == 0:
                waiting.discard(number)
            if number == last:
                before = max(waiting - {number}, default=-1)
                self._reduction.written((ends[before] if before >= 0 else 0) + start)

        return on_ready

    def _losses(self, call: Call, shard: Shard) -> tuple[Value, Value]:
        """The model's outputs, and the loss of each example, or of each place where places have weights."""
        outputs = self.model(Scope(call), shard.inputs)
        return outputs, as_weighted(self.loss(outputs, shard.targets), shard)

    def _sums(self, losses: Array, outputs: Array, shard: Shard) -> list[float]:
        """Weight sum, loss sum and metric sums of some examples, in float64."""
        columns = [losses, *(as_weighted(c, shard) for c in self.loss.measure(outputs, shard.targets))]
        if shard.weights is None:
            return [float(len(losses)), *(float(np.add.reduce(c, dtype=np.float64)) for c in columns)]
        weights = shard.weights.astype(np.float64)
        return [float(weights.sum()), *(float(np.sum(c * weights)) for c in columns)]

    def value(self, weights: Array) -> float:
        """The cost of the current mini-batch, that of value_and_gradient(); collective, the same on every rank."""
        filled = {shard.number: [shard] if len(shard.inputs) else [] for shard in self.batch}
        total = self._total(weights, filled.__getitem__, stages.FORWARD, self.draw)
        self.arena.comm.stages.enter(stages.UPDATE)
        return total.cost

    def evaluate(self, weights: Array, chunks: Chunks) -> Totals:
        """Cost and metrics of any number of examples, without gradients; collective.

        Args:
            weights: the flat weights.
            chunks: gives the examples of a shard, by its number, in pieces.
        """
        totals = self._total(weights, chunks, stages.EVALUATION)
        self.arena.comm.stages.enter(stages.OTHER)
        return totals

    def _total(self, weights: Array, chunks: Chunks, stage: int, draw: Callable[[Shard], Draw] | None = None) -> Totals:
        """Cost and metrics; of a training pass if it is told what to draw."""
        clock = self.arena.comm.stages
        clock.enter(stage)
        self.arena.fence(weights)
        parameters = self.layout.views(weights)
        tree = self._evaluation.start()
        for number in self.shards.mine:
            sums = self._evaluation.buffer()
            sums.scalars[:] = 0
            for chunk in chunks(number):
                clock.enter(stage)
                call = call_with(parameters, self.running, draw(chunk) if draw else None)
                outputs, losses = self._losses(call, chunk)
                sums.scalars += self._sums(array_of(losses), array_of(outputs), chunk)
            tree.push(0, number, sums)
        total = self._evaluation.total(tree)
        self.asked |= total.asked
        return _totals(total.scalars)

    # --- second derivatives -----------------------------------------------------------------------------

    def curvature(self, weights: Array, part: float = 1.0) -> Curvature:
        """The second derivatives of the current mini-batch's cost, at weights that must not change; collective.

        Each rank keeps what its shards have computed for as long as the result lives. In the products dropout is
        that of this step, and normalization that of training.

        Args:
            weights: the flat weights.
            part: the part of each shard's examples that is used.
        """
        self.arena.fence(weights)
        at = self.layout.views(weights)
        chosen = {s.number: s.rows(self._window(len(s.inputs), part)) for s in self.batch if len(s.inputs)}
        curved = {number: [self._curved(at, shard, self.draw(shard))] for number, shard in chosen.items()}
        return self._summed(lambda number: curved.get(number, []))

    def evaluated_curvature(self, weights: Array, chunks: Chunks) -> Curvature:
        """The second derivatives of the cost of any number of examples, the model used as in evaluation; collective.

        Args:
            weights: the flat weights, which must not change.
            chunks: gives the examples of a shard, by its number, in pieces; each product goes through them anew.
        """
        self.arena.fence(weights)
        at = self.layout.views(weights)
        return self._summed(lambda number: (self._curved(at, chunk.rows(...)) for chunk in chunks(number)))

    def _summed(self, examples: Callable[[int], Iterable[Curved]]) -> Curvature:
        return Curvature(examples, self.arena, self.layout, self.shards, self._reduction)

    def _window(self, count: int, part: float) -> Any:
        """Which of a shard's examples are used for a part: the first, as batches are shuffled.

        If there is one batch, which is always the same, different steps see different examples.
        """
        size, first = math.ceil(part * count), 0
        if self.whole and size < count:
            first = int(generator(self._seed, "part of the batch", self.step).random() * count)
        return slice(first, first + size) if first + size <= count else np.arange(first, first + size) % count

    def _curved(self, at: Mapping[str, Array], shard: Shard, draw: Draw | None = None) -> Curved:
        return Curved(
            outputs=lambda parameters: self.model(use(parameters, self.running, draw), shard.inputs),
            losses=lambda outputs: as_weighted(self.loss(outputs, shard.targets), shard),
            weights=shard.weights,
            at=at,
            count=len(shard.inputs),
            draw=draw or (0, 0, 0),
        )

    def free(self) -> None:
        """Give back the memory that ranks share; collective. Weights and gradients must not be used any more."""
        self.space.free()
        self._reduction.free()
        self.arena.free()


def as_weighted(losses: Value, shard: Shard) -> Value:
    """Losses of places averaged where places have no weights of their own: one number a weight."""
    axes = 1 if shard.weights is None else shard.weights.ndim
    return losses if losses.ndim == axes else mean(losses, axis=tuple(range(axes, losses.ndim)))


def _totals(scalars: Array) -> Totals:
    weight, loss, *metrics = scalars.tolist()
    return Totals(weight, loss, tuple(metrics))
