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

FOLDED = 2  # steps, without a pooling


class FoldedSteps(NamedTuple):
    """A convolution, its batch normalization, with ReLU or without, and perhaps a max pooling: one step in evaluation.

    Where anything but outputs is asked for, they are computed one after the other.

    Args:
        steps: of the convolution, the normalization, and perhaps the pooling.
    """

    steps: tuple[Step, ...]

    @property
    def layer(self) -> Any:
        """Return the first layer."""
        return self.steps[0].layer

    @property
    def takes(self) -> tuple[str, ...]:
        """Return the names of what the convolution takes."""
        return self.steps[0].takes

    @property
    def output(self) -> str:
        """Return the name of the last layer."""
        return self.steps[-1].output

    def apply(self, scope: Scope, x: Value, mask: Any) -> tuple[Value, Any]:
        """Return the outputs of the last layer, and their mask, as Step.apply() does."""
        if mask is None and scope.folds(x):
            return self.folded(scope, x), None
        for step in self.steps:
            x, mask = step.apply(scope, x, mask)
        return x, mask

    @property
    def can_add(self) -> bool:
        """Return True if something can be added to the outputs at once: if neither ReLU nor a pooling is among them."""
        return len(self.steps) == FOLDED and self.steps[1].after is None

    def folded(self, scope: Scope, x: Array, added: Array | None = None, relu: bool = False) -> Array:
        """Return the outputs of the last layer by one convolution; with what is added, and ReLU then, if can_add.

        Args:
            scope: of the list of layers, which folds x.
            x: what the convolution takes.
            added: an array of the outputs' shape; None for none.
            relu: whether ReLU comes after what is added.
        """
        convolution, normalization, *pooling = self.steps
        layers: list[Any] = [step.layer for step in self.steps]
        names = [step.weights or step.name for step in self.steps]
        inner, after = (scope.inside(name, None) for name in names[:2])

        def fold(w: Array, b: Array | None) -> ConstantConvolution:
            found: ConstantConvolution = inner.made_once(
                lambda: ConstantConvolution(*layers[1].folded(after, w, b)), names[1]
            )
            return found

        followers = Followers(layers[2].tiles if pooling else 0, fold, relu or normalization.after is not None, added)
        with errors_named(convolution.name, pooling[0].name if pooling else ""):
            y: Array = layers[0].followed(inner, x, followers)
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
            found[-1] = FoldedSteps((before, step))
        elif isinstance(before, FoldedSteps) and len(before.steps) == FOLDED and _is_pooling(step, before.layer):
            found[-1] = FoldedSteps((*before.steps, step))
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
