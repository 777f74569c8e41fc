"""Evaluation of a convolution and the batch normalization after it as one convolution, with other weights and bias."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from dbp.autodiff import ConstantConvolution, Value
from dbp.nn.layers.convolution import Conv1d, Conv2d, Conv3d, Followers, SeparableConv2d
from dbp.nn.layers.normalization import BatchNorm
from dbp.nn.layers.pooling import MaxPool1d, MaxPool2d
from dbp.nn.layers.steps import Step, errors_named
from dbp.nn.scope import Scope
from dbp.types import Array


class FoldedSteps(NamedTuple):
    """A convolution, its batch normalization, with ReLU or without, and perhaps a max pooling: one step in evaluation.

    Where anything but outputs is asked for, they are computed one after the other.

    Args:
        convolution: the step of the convolution.
        normalization: that of the normalization, which ReLU is a part of.
        pooling: that of the pooling; None without one.
    """

    convolution: Step
    normalization: Step
    pooling: Step | None = None

    @property
    def layer(self) -> Any:
        """Return the first layer."""
        return self.convolution.layer

    @property
    def takes(self) -> tuple[str, ...]:
        """Return the names of what the convolution takes."""
        return self.convolution.takes

    @property
    def output(self) -> str:
        """Return the name of the last layer."""
        return (self.pooling or self.normalization).output

    def apply(self, scope: Scope, x: Value, mask: Any) -> tuple[Value, Any]:
        """Return the outputs of the last layer, and their mask, as Step.apply() does."""
        if mask is None and scope.can_prepare(x):
            return self.folded(scope, x), None
        for step in (self.convolution, self.normalization, self.pooling):
            if step is not None:
                x, mask = step.apply(scope, x, mask)
        return x, mask

    @property
    def can_add(self) -> bool:
        """Return True if something can be added to the outputs at once: if neither ReLU nor a pooling is among them."""
        return self.pooling is None and self.normalization.after is None

    def folded(self, scope: Scope, x: Array, added: Array | None = None, relu: bool = False) -> Array:
        """Return the outputs of the last layer by one convolution; with what is added, and ReLU then, if can_add.

        Args:
            scope: of the list of layers, where weights can be prepared.
            x: what the convolution takes.
            added: an array of the outputs' shape; None for none.
            relu: whether ReLU comes after what is added.
        """
        convolution, normalization, pooling = self
        layer: Any = convolution.layer
        normalized: Any = normalization.layer
        max_pooling: Any = None if pooling is None else pooling.layer
        outer, after = (scope.inside(step.weights or step.name, None) for step in (convolution, normalization))

        def fold(w: Array, b: Array | None) -> ConstantConvolution:
            return ConstantConvolution(*normalized.folded(after, w, b))

        def prepared(w: Array, b: Array | None) -> ConstantConvolution:
            return outer.prepared(fold, w, b, maker=(normalization.weights or normalization.name, normalized))

        pool = 0 if max_pooling is None else max_pooling.tiles
        followers = Followers(pool, prepared, relu or normalization.after is not None, added)
        with errors_named(convolution.name, "" if pooling is None else pooling.name):
            y: Array = layer.followed(outer, x, followers)
        return y


def with_folded(steps: Sequence[Step], apart: Collection[str] = ()) -> tuple[Step | FoldedSteps, ...]:
    """Return steps in which each convolution is one with the batch normalization, and the max pooling, right after it.

    Args:
        steps: of all layers, where ReLU is a part of the step of the normalization before it.
        apart: the names of steps whose outputs are not those of the next step alone.
    """
    found: list[Step | FoldedSteps] = []
    for step in steps:
        before = found[-1] if found and step.follows and found[-1].output not in apart else None
        if isinstance(before, Step) and _is_linear(before) and isinstance(step.layer, BatchNorm):
            found[-1] = FoldedSteps(before, step)
        elif isinstance(before, FoldedSteps) and before.pooling is None and _is_pooling(step, before.layer):
            found[-1] = before._replace(pooling=step)
        else:
            found.append(step)
    return tuple(found)


def _is_linear(step: Step) -> bool:
    """Return True for a convolution alone, without an activation."""
    kinds = Conv1d, Conv2d, Conv3d, SeparableConv2d
    return isinstance(step.layer, kinds) and step.layer.activation == "linear" and step.after is None


def _is_pooling(step: Step, convolution: Any) -> bool:
    """Return True for a max pooling without overlap of the outputs of a convolution."""
    fitting = {Conv1d: MaxPool1d, Conv2d: MaxPool2d, SeparableConv2d: MaxPool2d}.get(type(convolution))
    return fitting is not None and isinstance(step.layer, fitting) and bool(step.layer.tiles)
