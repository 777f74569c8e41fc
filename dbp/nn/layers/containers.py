"""Layers made of layers: in sequence, with a shortcut, and recomputed in the backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, cast

import numpy as np

from dbp.autodiff import ShapeError, Value, add_relu_block
from dbp.errors import UserError
from dbp.nn.activations import activation
from dbp.nn.layers.folding import FoldedSteps, with_folded
from dbp.nn.layers.graph import Graph, Named, Shared, layers_of
from dbp.nn.layers.layer import Layer, check_not_a_class, error_in
from dbp.nn.layers.steps import Step, numbered, only_input, with_fused
from dbp.nn.recompute import recomputed
from dbp.nn.scope import Model, Scope
from dbp.types import Array


@dataclass(frozen=True, init=False)
class Sequential:
    """Layers applied in sequence, named by kind and number: dense_1, dense_2, ...

    Args:
        layers: the layers, or one list of them.
    """

    kind: ClassVar[str] = "sequential"
    layers: tuple[Layer, ...]

    def __init__(self, *layers: Layer | Sequence[Layer]):
        given = layers[0] if len(layers) == 1 and isinstance(layers[0], (list, tuple)) else layers
        object.__setattr__(self, "layers", layers_of(given, "layers"))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Name each layer by its kind and number."""
        return numbered(self.layers)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return the last layer's outputs."""
        mask = scope.mask
        x = only_input(x)
        for step in self._steps if mask is None else self._apart:
            x, mask = step.apply(scope, x, mask)
        scope.pass_mask(mask)
        return x

    @property
    def can_add(self) -> bool:
        """Return True if plus() can be called: the last layers are a convolution and its batch normalization."""
        return isinstance(self._steps[-1], FoldedSteps) and self._steps[-1].can_add

    def plus(self, scope: Scope, x: Array, added: Array, relu: bool) -> Array:
        """Return the last layer's outputs plus an array of their shape, perhaps after ReLU.

        The last convolution adds it while its outputs are in the cache. Weights can be prepared in the scope.
        """
        *first, last = self._steps
        assert isinstance(last, FoldedSteps)
        for step in first:
            x, _ = step.apply(scope, x, None)
        return last.folded(scope, x, added, relu)

    @cached_property
    def _apart(self) -> tuple[Step, ...]:
        """Return the steps for inputs with a mask, which lies between a layer and the one that it is fused with."""
        return tuple(Step(name, layer) for name, layer in zip(self.names, self.layers, strict=True))

    @cached_property
    def _steps(self) -> tuple[Step | FoldedSteps, ...]:
        return with_folded(with_fused(self._apart))


def model_of(layers: Sequence[Any], outputs: Any = None) -> Sequential | Graph:
    """Return layers as one: a Graph if any has a name or says what it takes, or if outputs are named.

    Args:
        layers: the layers.
        outputs: see Graph.
    """
    is_graph = outputs is not None or any(isinstance(layer, (Named, Shared)) for layer in layers)
    return Graph(*layers, outputs=outputs) if is_graph else Sequential(*layers)


def as_model(given: Any) -> Model:
    """Return a model, or a list of layers as one model; UserError for anything else."""
    if isinstance(given, (list, tuple)):
        return model_of(given)
    check_not_a_class(given)
    if not callable(given):
        raise UserError(f"model must be a layer, a list of layers or a function model(scope, x), but is {given!r}")
    return cast(Model, given)


@dataclass(frozen=True)
class Residual:
    """A residual block: activation(layers(x) + shortcut(x)) (He et al. 2016).

    Args:
        layers: the main path, applied in sequence.
        shortcut: layers of the shortcut, needed where shapes change; None, or no layers, for the identity.
        activation: applied to the sum.
    """

    kind: ClassVar[str] = "residual"
    layers: tuple[Layer, ...]
    shortcut: tuple[Layer, ...] = ()
    activation: str = "linear"

    def __post_init__(self) -> None:
        if self.shortcut is None:
            object.__setattr__(self, "shortcut", ())
        for name in ("layers", "shortcut"):
            object.__setattr__(self, name, layers_of(getattr(self, name), name, empty=name == "shortcut"))
        activation(self.activation)
        if any(isinstance(layer, Named) and layer.name == "shortcut" for layer in self.layers):
            raise UserError('name must not be "shortcut" in the layers of a residual, whose shortcut has this name')
        _ = self.paths  # raises if they do not fit together

    @cached_property
    def paths(self) -> tuple[Sequential | Graph, Sequential | Graph | None]:
        """Return the main path and the shortcut; None for the identity."""
        return model_of(self.layers), model_of(self.shortcut) if self.shortcut else None

    @cached_property
    def _adds_at_once(self) -> bool:
        """Return True if the last layer of the main path can add the shortcut's outputs where its own are computed."""
        main, _ = self.paths
        return self.activation in ("relu", "linear") and isinstance(main, Sequential) and main.can_add

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return the activated sum; UserError if both paths differ in shape."""
        main, shortcut = self.paths
        x = only_input(x)
        beside = scope.inside("shortcut")
        if self._adds_at_once and scope.can_prepare(x):
            added = _through_shortcut(shortcut, beside, x) if shortcut else x
            return cast(Sequential, main).plus(scope, x, added, self.activation == "relu")
        y = main(scope, x)
        straight = _through_shortcut(shortcut, beside, x) if shortcut else x
        if np.shape(y) != np.shape(straight):
            raise UserError(
                f"the layers return {np.shape(y)[1:]} per example, but the shortcut returns {np.shape(straight)[1:]}; "
                "both must be the same: give the shortcut layers of its own, such as a convolution of size 1"
            )
        if scope.mask is not None:
            one, other = scope.mask_after(main), beside.mask_after(shortcut) if shortcut else scope.mask
            scope.pass_mask(None if one is None or other is None else one & other)
        if self.activation == "relu":
            return add_relu_block(y, straight)
        return activation(self.activation)(y + straight)


def _through_shortcut(layers: Sequential | Graph, scope: Scope, x: Value) -> Value:
    """Return the shortcut's outputs; its errors get the path of the shortcut in front."""
    try:
        return layers(scope, x)
    except (UserError, ShapeError) as error:
        raise error_in("shortcut", error) from None


@dataclass(frozen=True)
class Recompute:
    """Layers applied in sequence whose outputs are computed again in the backward pass (Chen et al. 2016).

    This saves the memory of their outputs and costs a second forward pass through them.

    Args:
        layers: the layers, in their order.
    """

    kind: ClassVar[str] = "recompute"
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", layers_of(self.layers, "layers"))
        _ = self.inner  # raises if the layers do not fit together

    @cached_property
    def inner(self) -> Sequential | Graph:
        """Return the layers as one."""
        return model_of(self.layers)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return the last layer's outputs."""
        return recomputed(self.inner, scope, only_input(x))
