"""The base of all first-order methods: gradient clipping, weight decay, learning rates per parameter, weight averages.

A step takes one gradient and updates the owned ranges of the flat vectors block by block.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np

from dbp.checks import check_fraction, check_not_negative, check_positive
from dbp.errors import UserError
from dbp.optim.optimizer import AVERAGE, Optimizer, Outcome, State, Step, average_share
from dbp.optim.parameter_blocks import Block, ParameterSetting, Shapes, block_ranges, check_patterns, matches
from dbp.optim.protocols import Arriving, E, MiniBatchCost, RowGradient, Space, Vector, VectorSpace
from dbp.optim.row_updates import row_blocks, table_blocks

CLIP_EPSILON = 1e-6  # keeps the division by the gradient's norm finite; the same as PyTorch's clip_grad_norm_


class UpdateContext(NamedTuple):
    """The inputs and vectors of one update.

    Args:
        space: the space of the flat vectors.
        weights: the flat weights.
        gradient: by the flat weights; valid in the owned ranges.
        state: the optimizer's state.
        number: the number of the update, counted from 1.
        learning_rate: with the schedule's factor.
        scale: a factor on the gradient, from clip_norm.
        arriving: if set, wait for each range of the gradient before reading it.
    """

    space: VectorSpace
    weights: Vector
    gradient: Vector
    state: State
    number: int
    learning_rate: float
    scale: float
    arriving: Arriving | None = None


class UpdatePlan(NamedTuple):
    """The part of an update that stays the same from step to step.

    Args:
        weights: the flat weights that the blocks are views of.
        settings: one per parameter.
        blocks: the owned ranges from the end to the start, the order in which gradients arrive; each with a factor on
            the learning rate.
    """

    weights: Vector
    settings: list[ParameterSetting]
    blocks: list[tuple[Block, float]]


@dataclass(frozen=True, kw_only=True)
class FirstOrder(Optimizer):
    """An optimizer that takes one gradient a step.

    Args:
        learning_rate: positive.
        weight_decay: the strength with which weights are drawn to zero.
        decay: patterns of the names of parameters that decay; by default those with two or more axes.
        layer_rates: positive factors on the learning rate, by patterns of names; all that match are multiplied.
        clip_norm: the largest norm of the gradient, which is scaled down to it; 0 for no limit.
        clip_value: the largest absolute value of an element of the gradient, limited after scaling; 0 for no limit.
        average: the decay of an exponential moving average of the weights, which is used in place of the weights for
            evaluation and in the result; 0 for none.
    """

    is_first_order = True
    length_name = "learning_rate"
    needs_full_gradient: ClassVar[bool] = False  # True if advance() needs all of the gradient before the first block
    is_elementwise: ClassVar[bool] = True
    learning_rate: float
    weight_decay: float = 0.0
    decay: tuple[str, ...] = ()
    layer_rates: Mapping[str, float] = field(default_factory=dict)
    clip_norm: float = 0.0
    clip_value: float = 0.0
    average: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "decay", tuple(self.decay))
        check_positive(learning_rate=self.learning_rate)
        check_fraction(average=self.average)
        check_not_negative(weight_decay=self.weight_decay, clip_norm=self.clip_norm, clip_value=self.clip_value)
        if fixed := next((name for name, factor in self.layer_rates.items() if factor == 0), None):
            raise UserError(
                f"the factor of layer_rates for {fixed!r} must not be 0; to keep parameters as they are, set frozen = "
                f'["{fixed}"] beside the optimizer'
            )
        check_positive(**{f"the factor of layer_rates for {name!r}": x for name, x in self.layer_rates.items()})

    def check(self, shapes: Shapes, sparse: Collection[str] = ()) -> None:
        """Raise UserError if a pattern matches no parameter, or sparse parameters cannot be updated by rows."""
        if not self.is_elementwise:
            super().check(shapes, sparse)
        if sparse and self.average:
            raise UserError(
                f"{next(iter(sparse))!r} is sparse, but optimizer.average changes the averages of all rows in each "
                "step; leave out average or sparse"
            )
        check_patterns("decay", self.decay, shapes)
        check_patterns("layer_rates", self.layer_rates, shapes)

    @property
    def vectors(self) -> tuple[str, ...]:
        """Return the names of the vectors that a checkpoint holds."""
        return (AVERAGE,) if self.average else ()

    def step(self, cost: MiniBatchCost[E], weights: Vector, state: State, number: int, factor: float) -> Step[E]:
        """Find one gradient and make one update; see Optimizer.step()."""
        early = not (self.needs_full_gradient or self.clip_norm)
        evaluation, learning_rate = cost.value_and_gradient(weights, early), self.learning_rate * factor
        if not evaluation.finite:
            return Step(evaluation, Outcome.NOT_FINITE, length=learning_rate)
        space, gradient, arriving, rows = cost.space, evaluation.gradient, evaluation.arriving, evaluation.rows
        scale = self._clip_scale(space, gradient, rows) if self.clip_norm else 1.0
        context = UpdateContext(space, weights, gradient, state, number, learning_rate, scale, arriving)
        with space.changing:
            self.advance(context)
            for table in rows:
                self.advance_rows(table, context)
        return Step(evaluation, length=learning_rate)

    def _clip_scale(self, space: Space, gradient: Vector, rows: Sequence[RowGradient]) -> float:
        """Return the factor that brings the gradient's norm down to clip_norm."""
        square = space.dot(gradient, gradient)
        if not math.isfinite(square):  # overflow of float32
            square = float(space.squares(gradient).sum())
        square += sum(table.square for table in rows)
        return min(1.0, self.clip_norm / (math.sqrt(square) + CLIP_EPSILON))

    def advance(self, context: UpdateContext) -> None:
        """Update weights and vectors, block by block.

        Unless needs_full_gradient is set, all blocks must be passed before the first collective call of the space:
        until then other ranks may still wait for the part of the gradient that this rank sends.
        """
        for block in self.blocks(context):
            self.prepare(block, context)
            self.update(block, context)
            self.update_average(block, context)

    def advance_rows(self, gradient: RowGradient, context: UpdateContext) -> None:
        """Update this rank's rows of a table; of a sparse one those with a gradient, and the vectors in these rows."""
        blocks = row_blocks if gradient.sparse else table_blocks
        rate = context.learning_rate * self._rate_factor(gradient.name)
        decay = self._weight_decay(gradient.name, (len(gradient.values), gradient.values.shape[1]))
        for block in blocks(gradient, context.weights, context.state.vectors):
            block.learning_rate, block.weight_decay = rate, decay
            self.prepare(block, context)
            self.update(block, context)
            self.update_average(block, context)

    @abstractmethod
    def update(self, block: Block, context: UpdateContext) -> None:
        """Update one block of weights and vectors, in place."""

    # --- settings of the parameters ---------------------------------------------------------------------

    def settings(self, shapes: Shapes) -> list[ParameterSetting]:
        """Return the settings of each parameter."""
        return [
            ParameterSetting(self._rate_factor(name), self._weight_decay(name, shape)) for name, shape in shapes.items()
        ]

    def _rate_factor(self, name: str) -> float:
        return math.prod(factor for pattern, factor in self.layer_rates.items() if matches([pattern], name))

    def _weight_decay(self, name: str, shape: tuple[int, ...]) -> float:
        decays = matches(self.decay, name) if self.decay else len(shape) > 1
        return self.weight_decay if decays else 0.0

    # --- blocks -----------------------------------------------------------------------------------------

    def blocks(self, context: UpdateContext) -> Iterator[Block]:
        """Yield the owned blocks, each as soon as its gradient has arrived."""
        gradient, rate, arriving = context.gradient, context.learning_rate, context.arriving
        for block, factor in self.plan(context).blocks:
            if arriving is not None:
                arriving.wait_for(block.where)
            block.g, block.learning_rate = gradient[block.where], rate * factor
            yield block
        if arriving is not None:
            arriving.complete()

    def plan(self, context: UpdateContext) -> UpdatePlan:
        """Return the plan of the first update, kept because making it takes as long as a short update."""
        plan: UpdatePlan | None = context.state.derived.get("plan")
        if plan is None or plan.weights is not context.weights:
            settings = self.settings(context.space.shapes)
            plan = UpdatePlan(context.weights, settings, self._blocks(context, settings))
            context.state.derived["plan"] = plan
        return plan

    def _blocks(self, context: UpdateContext, settings: list[ParameterSetting]) -> list[tuple[Block, float]]:
        ranges = block_ranges(context.space.owned, context.space.shapes, settings)
        vectors, blocks = context.state.vectors | context.state.scratch, []
        longest = max((where.stop - where.start for where, _ in ranges), default=0)
        rows = np.empty((3, longest), context.weights.dtype)
        for where, (factor, decay, group) in sorted(ranges, key=lambda pair: -pair[0].start):
            w, g = context.weights[where], context.gradient[where]
            views = {name: vector[where] for name, vector in vectors.items()}
            buffers = [row[: len(w)] for row in rows]
            blocks.append((Block(w, g, views, buffers, context.learning_rate, decay, group, where), factor))
        return blocks

    # --- before and after the update of a block ---------------------------------------------------------

    def prepare(self, block: Block, context: UpdateContext) -> None:
        """Clip the gradient and apply weight decay."""
        clipped = block.buffers[2]
        if context.scale != 1:
            block.g = np.multiply(block.g, context.scale, out=clipped)
        if self.clip_value:
            block.g = np.clip(block.g, -self.clip_value, self.clip_value, out=clipped)
        if block.weight_decay:
            self.apply_weight_decay(block)

    def apply_weight_decay(self, block: Block) -> None:
        """Add the gradient of the penalty weight_decay/2 ||w||^2: g = g + weight_decay w."""
        np.multiply(block.w, block.weight_decay, out=block.buffers[0])
        block.g = np.add(block.g, block.buffers[0], out=block.buffers[2])

    def average_share(self, number: int) -> float:
        """Return the share of an update in the averages."""
        return average_share(self.average, number)

    def update_average(self, block: Block, context: UpdateContext) -> None:
        """Update the average of the weights, a = a + share (w - a)."""
        if self.average:
            mean, change, share = block.vectors[AVERAGE], block.buffers[0], self.average_share(context.number)
            if share == 1:
                mean[:] = block.w
                return
            np.subtract(block.w, mean, out=change)
            np.multiply(change, share, out=change)
            np.add(mean, change, out=mean)


def decoupled_weight_decay(block: Block) -> None:
    """Shrink the weights apart from the gradient: w = w - learning_rate weight_decay w (Loshchilov, Hutter 2019)."""
    np.multiply(block.w, 1 - block.learning_rate * block.weight_decay, out=block.w)
