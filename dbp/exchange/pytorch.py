"""Conversion of PyTorch's weights to those of dbp's layers: other names, other orders of axes.

PyTorch has channels first, dbp has them last. So images (or sequences of Conv1d) are flattened in another order, and
the rows of the next layer's weights must be reordered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from dbp import nn
from dbp.errors import UserError
from dbp.types import Array

Shape = tuple[int, ...]
IGNORED = "num_batches_tracked"  # a counter of BatchNorm that dbp does not need


class Rule(NamedTuple):
    """How an array of dbp is made of arrays of PyTorch; raises ValueError or IndexError if their shapes do not fit."""

    names: tuple[str, ...]
    make: Callable[..., Array]

    def then(self, order: Array) -> Rule:
        """Return this rule with the rows of the result in another order."""
        return Rule(self.names, lambda *arrays: self.make(*arrays)[order])


Rules = dict[str, Rule]


def same(array: Array) -> Array:
    """Return the array unchanged."""
    return array


def _turned(array: Array) -> Array:
    return array.T


def _dense(_layer: nn.Dense) -> Rules:
    return {"weight": Rule(("weight",), _turned), "bias": Rule(("bias",), same)}


def _filters(_layer: nn.Conv2d | nn.ConvTranspose2d) -> Rules:
    return {"weight": Rule(("weight",), lambda w: w.transpose(2, 3, 1, 0)), "bias": Rule(("bias",), same)}


def _conv1d(_layer: nn.Conv1d) -> Rules:
    return {"weight": Rule(("weight",), lambda w: w.transpose(2, 1, 0)[None]), "bias": Rule(("bias",), same)}


def _norm(_layer: nn.BatchNorm | nn.LayerNorm | nn.GroupNorm) -> Rules:
    names = {"scale": "weight", "shift": "bias", "running_mean": "running_mean", "running_variance": "running_var"}
    return {ours: Rule((theirs,), same) for ours, theirs in names.items()}


def _lstm(_layer: nn.LSTM) -> Rules:
    return {
        "weight": Rule(("weight_ih_l0",), _turned),
        "recurrent": Rule(("weight_hh_l0",), _turned),
        "bias": Rule(("bias_ih_l0", "bias_hh_l0"), np.add),
    }


def _gru(layer: nn.GRU) -> Rules:
    """Return the rules of a GRU: each gate has two biases, and the reset gate scales the second of the candidate."""
    border = 2 * layer.units

    def bias(first: Array, second: Array) -> Array:
        return first + np.where(np.arange(len(second)) < border, second, 0)

    return _lstm(nn.LSTM(layer.units)) | {
        "bias": Rule(("bias_ih_l0", "bias_hh_l0"), bias),
        "candidate_bias": Rule(("bias_hh_l0",), lambda second: second[border:]),
    }


def _attention(_layer: nn.Attention) -> Rules:
    """Return the rules of attention: PyTorch stores the matrices of query, key and value as one."""

    def part(number: int, array: Array) -> Array:
        return np.split(array, 3)[number].T

    rules = {"output/weight": Rule(("out_proj/weight",), _turned), "output/bias": Rule(("out_proj/bias",), same)}
    for number, name in enumerate(("query", "key", "value")):
        rules[f"{name}/weight"] = Rule(("in_proj_weight",), partial(part, number))
        rules[f"{name}/bias"] = Rule(("in_proj_bias",), partial(part, number))
    return rules


KINDS: dict[type, Callable[[Any], Rules]] = {
    nn.Dense: _dense,
    nn.Conv1d: _conv1d,
    nn.Conv2d: _filters,
    nn.ConvTranspose2d: _filters,
    nn.BatchNorm: _norm,
    nn.LayerNorm: _norm,
    nn.GroupNorm: _norm,
    nn.LSTM: _lstm,
    nn.GRU: _gru,
    nn.Attention: _attention,
}  # embeddings and positions are the same in both


# --- the order of what is flattened -----------------------------------------------------------------


@dataclass(frozen=True)
class Flow:
    """The values between two layers.

    Args:
        shape: shape of an example in dbp.
        channels_first: whether PyTorch has the channels of a sequence first, as it has those of images.
        order: for each element of a row in dbp its index in PyTorch; None if both have the same order.
    """

    shape: Shape
    channels_first: bool = False
    order: Array | None = None

    @property
    def flat(self) -> Array | None:
        """Return the order of the elements of a flattened example."""
        *lengths, channels = self.shape
        if not lengths:
            return self.order
        if not (self.channels_first or len(lengths) > 1):
            return None
        numbers = np.arange(np.prod(self.shape)).reshape(channels, *lengths)
        order = np.moveaxis(numbers, 0, -1).reshape(-1)
        return None if np.array_equal(order, np.arange(len(order))) else order


CHANNELS_FIRST = (nn.Conv1d, nn.MaxPool1d, nn.AveragePool1d)
ORDER_KEEPING = (nn.Activation, nn.Dropout, nn.BatchNorm)  # layers that treat each element or channel alone


def rules_of(model: nn.Model, weights: nn.InitialParameters, input_shape: Shape) -> Rules:
    """Return the rule for each weight of a model; names have slashes in place of PyTorch's dots.

    Raises:
        UserError: the order of elements in PyTorch cannot be derived for some layer.
    """
    rules: Rules = {}
    _walk(model, "", Flow(input_shape), _shapes(model, weights, input_shape), rules)
    return rules


def _shapes(model: nn.Model, weights: nn.InitialParameters, input_shape: Shape) -> dict[str, Shape]:
    """Return the shape of one example's outputs by the path of the layer."""
    call = nn.call_with(weights.parameters, weights.running)
    call.trace = []
    dtype = next(iter(weights.parameters.values())).dtype
    model(nn.Scope(call), np.zeros((2, *input_shape), dtype))
    return {passed.path: np.shape(passed.outputs)[1:] for passed in call.trace}


def _walk(layer: Any, path: str, flow: Flow, shapes: Mapping[str, Shape], rules: Rules) -> Flow:
    """Add the rules of a layer and its inner layers; return the flow after it."""
    if isinstance(layer, nn.Sequential):
        for name, inner in zip(layer.names, layer.layers, strict=True):
            flow = _walk(inner, f"{path}{name}/", flow, shapes, rules)
        return flow
    if isinstance(layer, (nn.Residual, nn.Recompute)):
        if isinstance(layer, nn.Residual):
            _must_be_in_order(layer, path, flow.order)
            if layer.shortcut:
                _walk(nn.Sequential(*layer.shortcut), f"{path}shortcut/", flow, shapes, rules)
        return _walk(nn.Sequential(*layer.layers), path, flow, shapes, rules)
    own = KINDS[type(layer)](layer) if type(layer) in KINDS else {}
    for name, rule in own.items():
        theirs = Rule(tuple(path + n for n in rule.names), rule.make)
        by_row = flow.order is not None and (name == "weight" or not isinstance(layer, nn.Dense))
        rules[path + name] = theirs.then(flow.order) if by_row and flow.order is not None else theirs
    return _after(layer, path, flow, shapes.get(path.rstrip("/"), flow.shape))


def _after(layer: Any, path: str, flow: Flow, shape: Shape) -> Flow:
    """Return the flow after a layer without inner layers."""
    if isinstance(layer, nn.Flatten):
        return Flow(shape, order=flow.flat)
    if isinstance(layer, nn.Reshape):
        after = Flow(shape)
        if not _alike(flow.flat, after.flat):
            _must_be_in_order(layer, path, flow.flat if after.flat is None else after.flat)
        return after
    if isinstance(layer, ORDER_KEEPING) or (isinstance(layer, nn.LayerNorm) and flow.order is not None):
        return replace(flow, shape=shape)
    if isinstance(layer, nn.GroupNorm):
        _must_be_in_order(layer, path, flow.order)
        return replace(flow, shape=shape)
    return Flow(shape, channels_first=isinstance(layer, CHANNELS_FIRST))


def _alike(one: Array | None, other: Array | None) -> bool:
    return np.array_equal(one, other) if one is not None and other is not None else one is other


def _must_be_in_order(layer: Any, path: str, order: Array | None) -> None:
    if order is not None:
        raise UserError(
            f"{path.rstrip('/')}: weights of PyTorch around a {layer.kind} of numbers of several places and channels "
            "cannot be put in order, as PyTorch has channels first; reorder them yourself, and leave --from out"
        )
