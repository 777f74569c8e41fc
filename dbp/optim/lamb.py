"""LAMB: Adam with a trust ratio for each parameter (You et al. 2020, Algorithm 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.optim.adam import Adam
from dbp.optim.first_order import UpdateContext
from dbp.optim.parameter_blocks import Block, ParameterSetting, Shapes
from dbp.optim.trust_ratio import one_group_each, trust_ratios


@dataclass(frozen=True)
class LAMB(Adam):
    """Adam with a trust ratio ||w|| / ||r|| for each parameter, and no limits on ||w|| (You et al. 2020, Algorithm 2).

    r = m' / (sqrt(v') + epsilon) + weight_decay w, with Adam's m' and v'
    w = w - learning_rate ||w|| / ||r|| r

    The trust ratio is 1 where a norm is zero.
    """

    kind: ClassVar[str] = "lamb"
    is_elementwise: ClassVar[bool] = False
    epsilon: float = 1e-6

    @property
    def scratch(self) -> tuple[str, ...]:
        """Name the direction r, kept until all of its norms are known."""
        return ("direction",)

    def settings(self, shapes: Shapes) -> list[ParameterSetting]:
        """Return the settings of each parameter, which is a group of its own."""
        return one_group_each(super().settings(shapes))

    def apply_weight_decay(self, block: Block) -> None:
        """Do nothing: update() adds weight decay to the direction."""

    def advance(self, context: UpdateContext) -> None:
        """Find the whole direction, then all trust ratios, then step."""
        for block in self.blocks(context):
            self.prepare(block, context)
            self.update(block, context)
        space, direction = context.space, context.state.scratch["direction"]
        ratios = trust_ratios(np.sqrt(space.squares(context.weights)), np.sqrt(space.squares(direction)))
        for block in self.blocks(context):
            np.multiply(block.vectors["direction"], block.learning_rate * ratios[block.group], out=block.buffers[0])
            np.subtract(block.w, block.buffers[0], out=block.w)
            self.update_average(block, context)

    def update(self, block: Block, context: UpdateContext) -> None:
        """Write one block of the direction r."""
        self.update_moments(block)
        r = self.direction(block, context.number, 1.0, out=block.vectors["direction"])
        if block.weight_decay:
            np.multiply(block.w, block.weight_decay, out=block.buffers[0])
            np.add(r, block.buffers[0], out=r)
