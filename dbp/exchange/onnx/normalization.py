"""Normalization in ONNX, by running moments where training takes those of the shard; dropout is nothing here."""

from __future__ import annotations

from dbp import nn
from dbp.exchange.onnx.graph import Place, Value

TYPES = {"float32": 1, "float64": 11}  # ONNX's numbers of them


def _settings(place: Place, epsilon: float) -> dict[str, float]:
    """What operators that find moments themselves take, so that they do it in the type of the run."""
    return {"epsilon": epsilon, "stash_type": TYPES[place.graph.dtype.name]}


def _scale_and_shift(place: Place) -> tuple[str, str]:
    return place.constant("scale", place.weight("scale")), place.constant("shift", place.weight("shift"))


def batch_norm(place: Place, layer: nn.BatchNorm, x: Value) -> Value:
    """Every channel by its running mean and variance."""
    moments = (place.constant(name, place.weight(name)) for name in ("running_mean", "running_variance"))
    taken = (*_scale_and_shift(place), *moments)
    return place.apply("BatchNormalization", place.channels_first(x), *taken, epsilon=layer.epsilon)


def layer_norm(place: Place, layer: nn.LayerNorm, x: Value) -> Value:
    """The last axis by its own mean and variance."""
    return place.apply(
        "LayerNormalization", place.plain(x), *_scale_and_shift(place), axis=-1, **_settings(place, layer.epsilon)
    )


def group_norm(place: Place, layer: nn.GroupNorm, x: Value) -> Value:
    """Groups of channels by their mean and variance over all places."""
    return place.apply(
        "GroupNormalization",
        place.channels_first(x),
        *_scale_and_shift(place),
        num_groups=layer.groups,
        **_settings(place, layer.epsilon),
    )


def dropout(_place: Place, _layer: nn.Dropout, x: Value) -> Value:
    """The inputs themselves."""
    return x
