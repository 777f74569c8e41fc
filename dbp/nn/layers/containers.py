"""Layers made of layers: in sequence, with a shortcut, and recomputed in the backward pass."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np

from dbp.autodiff import ShapeError, Value
from dbp.errors import UserError
from dbp.nn.activations import activation
from dbp.nn.layers.convolution import Conv2d, PoolError
from dbp.nn.layers.layer import Layer, check_layer, check_not_a_class
from dbp.nn.layers.pooling import MaxPool2d
from dbp.nn.scope import Model, Scope, recomputed

_LAYER_PATH = re.compile(r"(\w+/)*\w*\d: ")  # in front of a message: names of layers, which end with a number


class _Step(NamedTuple):
    """A layer to apply, alone or with the max pooling after it, which is fused with a convolution.

    Args:
        name: the name of the layer.
        layer: the layer.
        pool_name: the name of the pooling layer.
        pool: the pooling layer; None without one that is fused.
    """

    name: str
    layer: Layer
    pool_name: str = ""
    pool: MaxPool2d | None = None


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
        object.__setattr__(self, "layers", _layers_of(given, "layers"))
        if not self.layers:
            raise UserError("a model needs at least one layer")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Name each layer by its kind and number."""
        seen: Counter[str] = Counter()
        names = []
        for layer in self.layers:
            seen[layer.kind] += 1
            names.append(f"{layer.kind}_{seen[layer.kind]}")
        return tuple(names)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return the last layer's outputs."""
        mask = scope.mask
        for name, layer, pool_name, pool in self._steps if mask is None else self._apart:
            try:
                inner = scope.inside(name, mask)
                trace = inner.trace_layer(layer)
                x = layer.pooled(inner, x, pool.tiles) if pool and isinstance(layer, Conv2d) else layer(inner, x)
                mask = None if mask is None else inner.mask_after(layer)
                if trace is not None:
                    trace.end(x, scope.inside(pool_name).trace_layer(pool) if pool else None)
            except PoolError as error:
                raise UserError(_with_path(pool_name, error)) from None
            except (UserError, ShapeError) as error:
                raise type(error)(_with_path(name, error)) from None
        scope.pass_mask(mask)
        return x

    @cached_property
    def _apart(self) -> tuple[_Step, ...]:
        """Return the steps for inputs with a mask, which lies between a convolution and its pooling."""
        return tuple(_Step(name, layer) for name, layer in zip(self.names, self.layers, strict=True))

    @cached_property
    def _steps(self) -> tuple[_Step, ...]:
        return tuple(self._fuse_pooling())

    def _fuse_pooling(self) -> Iterator[_Step]:
        """Yield the steps; a max pooling without overlap right after a Conv2d is a part of its step."""
        named = list(zip(self.names, self.layers, strict=True))
        is_fused = False  # whether the last step took this layer with it
        following: list[tuple[str, Layer | None]] = [*named[1:], ("", None)]
        for (name, layer), (next_name, after) in zip(named, following, strict=True):
            if is_fused:
                is_fused = False
            elif isinstance(layer, Conv2d) and isinstance(after, MaxPool2d) and after.tiles:
                is_fused = True
                yield _Step(name, layer, next_name, after)
            else:
                yield _Step(name, layer)


def as_model(given: Any) -> Model:
    """Return a model, or a list of layers as one model; UserError for anything else."""
    if isinstance(given, (list, tuple)):
        return Sequential(*given)
    check_not_a_class(given)
    if not callable(given):
        raise UserError(f"model must be a layer, a list of layers or a function model(scope, x), but is {given!r}")
    return cast(Model, given)


def _layers_of(given: Any, name: str) -> tuple[Layer, ...]:
    if not isinstance(given, (list, tuple)):
        raise UserError(f"{name} must be a list of layers, but is {given!r}")
    for layer in given:
        check_layer(layer)
    return tuple(given)


def _with_path(name: str, error: Exception) -> str:
    """Return the error's message with the name of a layer in front.

    A message that begins with the path of an inner layer has the name as the first part of that path: "dense_2: units
    must be ..." becomes "residual_1/dense_2: units must be ...".
    """
    message = str(error)
    return f"{name}/{message}" if _LAYER_PATH.match(message) else f"{name}: {message}"


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
            object.__setattr__(self, name, _layers_of(getattr(self, name), name))
        activation(self.activation)
        Sequential(*self.layers)

    @cached_property
    def _paths(self) -> tuple[Sequential, Sequential | None]:
        return Sequential(*self.layers), Sequential(*self.shortcut) if self.shortcut else None

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return the activated sum; UserError if both paths differ in shape."""
        main, shortcut = self._paths
        y = main(scope, x)
        beside = scope.inside("shortcut")
        straight = _through_shortcut(shortcut, beside, x) if shortcut else x
        if np.shape(y) != np.shape(straight):
            raise UserError(
                f"the layers return {np.shape(y)[1:]} per example, but the shortcut returns {np.shape(straight)[1:]}; "
                "both must be the same: give the shortcut layers of its own, such as a convolution of size 1"
            )
        if scope.mask is not None:
            one, other = scope.mask_after(main), beside.mask_after(shortcut) if shortcut else scope.mask
            scope.pass_mask(None if one is None or other is None else one & other)
        return activation(self.activation)(y + straight)


def _through_shortcut(layers: Sequential, scope: Scope, x: Value) -> Value:
    """Return the shortcut's outputs; its errors get the path of the shortcut in front."""
    try:
        return layers(scope, x)
    except (UserError, ShapeError) as error:
        raise type(error)(f"shortcut/{error}") from None


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
        object.__setattr__(self, "layers", _layers_of(self.layers, "layers"))
        Sequential(*self.layers)

    @cached_property
    def _model(self) -> Sequential:
        return Sequential(*self.layers)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return the last layer's outputs."""
        return recomputed(self._model, scope, x)
