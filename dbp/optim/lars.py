"""LARS: layer-wise adaptive rate scaling (You, Gitman and Ginsburg 2017, Algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.checks import check_fraction, check_positive
from dbp.optim.first_order import FirstOrder, UpdateContext
from dbp.optim.parameter_blocks import Block, ParameterSetting, Shapes
from dbp.optim.protocols import Vector
from dbp.optim.trust_ratio import one_group_each, trust_ratios


@dataclass(frozen=True)
class LARS(FirstOrder):
    """SGD with momentum and a trust ratio r for each parameter (You, Gitman and Ginsburg 2017, Algorithm 1).

    r = trust ||w|| / (||g|| + weight_decay ||w||)
    v = momentum v + learning_rate r (g + weight_decay w)
    w = w - v

    As is usual, r is 1 for parameters with one axis (biases and the like), and where a norm is zero.

    Args:
        momentum: at least 0 and below 1.
        trust: the trust coefficient (eta in the paper); positive.
    """

    kind: ClassVar[str] = "lars"
    is_elementwise: ClassVar[bool] = False
    needs_full_gradient: ClassVar[bool] = True
    learning_rate: float
    momentum: float = 0.9
    trust: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction(momentum=self.momentum)
        check_positive(trust=self.trust)

    @property
    def vectors(self) -> tuple[str, ...]:
        """Name the velocity v and the vectors of every first-order method."""
        return ("velocity", *super().vectors)

    @property
    def scratch(self) -> tuple[str, ...]:
        """Name the clipped gradient, whose norms count in place of the gradient's."""
        return ("clipped",) if self.clip_norm or self.clip_value else ()

    def settings(self, shapes: Shapes) -> list[ParameterSetting]:
        """Return the settings of each parameter, which is a group of its own."""
        return one_group_each(super().settings(shapes))

    def apply_weight_decay(self, block: Block) -> None:
        """Do nothing: update() applies weight decay."""

    def advance(self, context: UpdateContext) -> None:
        """Clip, find all trust ratios, then update."""
        gradient = context.state.scratch.get("clipped", context.gradient)
        if gradient is not context.gradient:
            for block in self.blocks(context):
                self.prepare(block, context)
                block.vectors["clipped"][:] = block.g
        ratios = self._trust_ratios(context, gradient)
        for block in self.blocks(context._replace(gradient=gradient)):
            block.learning_rate *= ratios[block.group]
            self.update(block, context)
            self.update_average(block, context)

    def _trust_ratios(self, context: UpdateContext, gradient: Vector) -> list[float]:
        """Return r of each parameter."""
        space = context.space
        weight_norms, gradient_norms = np.sqrt(space.squares(context.weights)), np.sqrt(space.squares(gradient))
        decay = np.array([setting.weight_decay for setting in self.plan(context).settings])
        is_one = np.array([len(shape) < 2 for shape in space.shapes.values()], bool) | (gradient_norms == 0)
        numerators = np.where(is_one, 0.0, self.trust * weight_norms)
        return trust_ratios(numerators, gradient_norms + decay * weight_norms)

    def update(self, block: Block, context: UpdateContext) -> None:  # noqa: ARG002
        """Update one block, whose learning rate already contains r."""
        v, change = block.vectors["velocity"], block.buffers[0]
        np.multiply(v, self.momentum, out=v)
        if block.weight_decay:
            np.multiply(block.w, block.learning_rate * block.weight_decay, out=change)
            np.add(v, change, out=v)
        np.multiply(block.g, block.learning_rate, out=change)
        np.add(v, change, out=v)
        np.subtract(block.w, v, out=block.w)
