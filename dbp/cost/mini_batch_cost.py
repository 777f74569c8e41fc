"""The cost of one mini-batch and its derivatives over all ranks: stages 2 to 5, where derivatives and ranks meet.

The gradient is exactly that of the weighted mean of the losses of all examples, however they fall on shards and ranks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dbp.autodiff import Tensor, array_of, pullback
from dbp.cost.curvature import Curvature
from dbp.cost.mini_batch import ExampleSums
from dbp.cost.objective import Objective
from dbp.cost.objective_curvature import curvature_of, loss_curvature
from dbp.cost.planned_passes import PassForm, cotangent_of
from dbp.named_arrays import each
from dbp.nn import RandomKey, moment_sums
from dbp.parallel import Arena, Arriving, Stage, SumBuffer, passes
from dbp.random import generator
from dbp.reading.shard import Batch, Shard
from dbp.types import Array

if TYPE_CHECKING:
    from dbp.cost.joint import LossFactors
    from dbp.cost.kronecker_factors import KroneckerFactors
    from dbp.cost.row_gradients import RowGradient

OnReady = Callable[[int, int], None]  # see pullback()
NO_MOMENTS = np.empty(0)
FACTORS = "Kronecker factors"  # the name by which an objective holds them


class Evaluation(NamedTuple):
    """The cost of a mini-batch, its gradient by the flat weights, and the sums behind them.

    Args:
        gradient: of the cost, complete where this rank owns it.
        totals: sums over the examples.
        moments: sums for the running moments.
        finite: True if cost, gradient and moments are finite.
        arriving: the gradient on its way; wait for each part before reading it. None if the gradient is complete.
        rows: the gradients by rows of tables, which `gradient` leaves out.
    """

    gradient: Array
    totals: ExampleSums
    moments: Array
    finite: bool
    arriving: Arriving | None = None
    rows: Sequence[RowGradient] = ()

    @property
    def cost(self) -> float:
        """Return the weighted mean of the losses."""
        return self.totals.cost


@dataclass(eq=False)
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
        """Return the space that the weights lie in, but for tables."""
        return self.objective.arena.dense

    @property
    def root(self) -> Arena:
        """Return the means by which one rank computes for all."""
        return self.objective.arena

    @property
    def is_deterministic(self) -> bool:
        """Return True if this is the same function at every step."""
        return self.objective.is_deterministic

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of mini-batches that together hold every example once; 0 if that is not known."""
        return self.objective.steps_per_epoch

    def draw(self, shard: Shard) -> RandomKey:
        """Return the key of the random numbers that a shard draws in this step."""
        return RandomKey(self.objective.seed, self.step, shard.number)

    @cached_property
    def loss_factors(self) -> LossFactors | None:
        """Return the factors of the losses of several targets, see cost/joint.py; None for one target; collective."""
        return None if self.objective.joint is None else self.objective.loss_factors(self._examples)

    def _examples(self, number: int) -> list[Shard]:
        """Return the examples of one of this rank's shards, by its number."""
        return [shard for shard in self.batch if shard.number == number and shard.count]

    def value(self, weights: Array) -> float:
        """Return the cost, the same to the last bit as that of value_and_gradient()."""
        total = self.objective.totals(weights, self._examples, Stage.FORWARD, self.objective.metrics.parts, self.draw)
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
        if objective.joint is not None:
            _ = self.loss_factors  # which all ranks find together
        gradients.start(shard.example_weight for shard in self.batch)
        for number, sums in passes(objective.shards, partial(self._gradient, weights), objective.allreduce):
            gradients.push(number, sums)
        clock.enter(Stage.SUM)
        row_gradients = objective.row_gradients
        total = gradients.total(early and row_gradients is None)  # 5 sum
        rows, finite = ((), True) if row_gradients is None else row_gradients.total(total.scalars)
        clock.enter(Stage.UPDATE)
        objective.stop_requested |= total.stop_requested
        totals = ExampleSums.of(total.scalars[: objective.scalars], objective.metrics.target_weights)
        moments = total.scalars[objective.scalars :].copy() if objective.running else NO_MOMENTS
        finite = finite and total.finite and math.isfinite(totals.loss)
        if objective.running:
            finite = finite and bool(np.isfinite(moments).all())
        if not finite:
            gradients.reject()
            return Evaluation(total.vector, totals, moments, finite=False, rows=rows)
        gradients.accept()
        return Evaluation(total.vector, totals, moments, finite=True, arriving=total.arriving, rows=rows)

    def _gradient(self, weights: Array, number: int) -> SumBuffer:
        """Return the gradient of a shard's loss sum, and its sums, in a buffer: zeros for a shard without examples."""
        objective, shards = self.objective, self.objective.shards.mine
        shard, sums = self.batch[number - shards.start], objective.gradients.buffer()
        if shard.count:
            # Parts of the gradient are sent from the last shard's backward pass, if all other shards are complete then.
            last = number == shards[-1] and (objective.allreduce is None or len(shards) == 1)
            self._write_gradient(weights, shard, sums, last)  # 2 forward, 3 loss, 4 backward
        else:
            sums.bytes[:] = 0
        return sums

    def _write_gradient(self, weights: Array, shard: Shard, sums: SumBuffer, last: bool) -> None:
        """Write the gradient of a shard's loss sum, and its sums, to a buffer."""
        objective = self.objective
        on_ready = objective.gradients.on_ready(objective.layout.dense) if last else None
        form = objective.planned.form(weights, shard) if on_ready is None else None
        planned = None if form is None else form.trusted
        if planned is None:
            self._record_gradient(weights, shard, sums, on_ready, form)
            return
        clock = objective.arena.comm.clock
        clock.enter(Stage.FORWARD)
        planned.forward(shard, self.draw(shard))  # 2 forward, 3 loss
        sums.scalars[: objective.scalars] = objective.sums(planned.losses, planned.outputs, shard)  # still in the cache
        clock.enter(Stage.BACKWARD)
        planned.backward(shard, objective.gradient_views(sums))  # 4 backward
        if objective.running:
            sums.scalars[objective.scalars :] = np.concatenate(moment_sums(objective.running, planned.observed))

    def _record_gradient(
        self, weights: Array, shard: Shard, sums: SumBuffer, on_ready: OnReady | None, form: PassForm | None
    ) -> None:
        """Do what _write_gradient() does by a graph, from which a pass of this form may be planned."""
        objective = self.objective
        clock, leaves = objective.arena.comm.clock, objective.leaves(weights)
        call = objective.call(leaves, shard, self.draw(shard))
        lookups = objective.row_lookups(weights, shard.number)
        call.rows = lookups
        due = form if form is not None and form.is_due else None
        if due is not None:
            call.drawn_arrays, call.unrecorded = [], []
        clock.enter(Stage.FORWARD)
        outputs, losses = objective.forward(call, shard)  # 2 forward, 3 loss
        if due is not None and due.refuse_if_large(losses):
            due, call.drawn_arrays, call.unrecorded = None, None, None
        clock.enter(Stage.BACKWARD)
        end, cotangent = losses, cotangent_of(shard, objective.dtype)
        if objective.joint is not None:
            from dbp.cost.joint import loss_sum

            assert self.loss_factors is not None
            end, cotangent = loss_sum(losses, shard, self.loss_factors), np.ones((), objective.dtype)
        wanted, into = list(leaves.values()), objective.gradient_views(sums)
        if lookups is not None:
            wanted, into = wanted + lookups.leaves, into + lookups.gradients
        if type(end) is Tensor:
            pullback(end, cotangent, wanted, into=into, on_ready=on_ready, consume=due is None)  # 4 backward
            if lookups is not None:
                lookups.add_up()
        else:  # no target has any weight left
            sums.bytes[:] = 0
        found = each(array_of, losses), each(array_of, outputs)
        sums.scalars[: objective.scalars] = objective.sums(*found, shard, call.mixture)
        if objective.running:
            sums.scalars[objective.scalars :] = np.concatenate(moment_sums(objective.running, call.observed))
        if form is not None:
            objective.planned.learn(form, shard, call, losses, outputs, wanted, into)

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
        chosen, loss_factors = self._part(part)
        losses = {
            n: [loss_curvature(objective, at, shard, self.draw(shard), loss_factors)] for n, shard in chosen.items()
        }
        return curvature_of(objective, lambda number: losses.get(number, []), training=True)

    def kronecker_factors(self, weights: Array, part: float, longest: int) -> KroneckerFactors:
        """Return the factors of the Fisher matrix, whose total is valid until the next call.

        Args:
            weights: the flat weights.
            part: the fraction of each shard's examples that is used.
            longest: the largest number of rows of a factor, the same in each call.
        """
        from dbp.cost.kronecker_factors import KroneckerFactors, Sample  # which few runs need

        objective = self.objective
        objective.arena.fence(weights)
        sample = Sample(weights, *self._part(part), self.draw)
        if FACTORS not in objective.made_once:
            objective.made_once[FACTORS] = KroneckerFactors.of(objective, sample, longest)
        found: KroneckerFactors = objective.made_once[FACTORS]
        found.add_up(sample)
        return found

    def _part(self, part: float) -> tuple[dict[int, Shard], LossFactors | None]:
        """Return a fraction of the examples of each of this rank's shards, and the factors of several targets.

        Collective for several targets. Shards without examples are left out.
        """
        chosen = {s.number: s.rows(self._window(s.count, part)) for s in self.batch if s.count}
        loss_factors = self.loss_factors
        if loss_factors is not None and part < 1:
            loss_factors = self.objective.loss_factors(lambda number: [chosen[number]] if number in chosen else [])
        return chosen, loss_factors

    def _window(self, count: int, part: float) -> Any:
        """Return the indices of the examples of a shard that are used: the first ones, as batches are shuffled.

        A full batch is always the same, so there different steps use different examples.
        """
        size, first = math.ceil(part * count), 0
        if self.objective.full_batch and size < count:
            first = int(generator(self.objective.seed, "part of the batch", self.step).random() * count)
        return slice(first, first + size) if first + size <= count else np.arange(first, first + size) % count
