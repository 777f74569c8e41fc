"""Conversion of PyTorch's weights to those of dbp's layers: other names, other orders of axes.

PyTorch has channels first, dbp has them last. So images (or sequences of Conv1d) are flattened in another order, and
the rows of the next layer's weights must be reordered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dbp import nn
from dbp.errors import UserError
from dbp.exchange.pytorch_rules import KINDS, Rules, cross_attention
from dbp.named_arrays import as_dict, each, zeros_of
from dbp.types import Array, Shape, Shapes

IGNORED = "num_batches_tracked"  # a counter of BatchNorm that dbp does not need


# --- the order of what is flattened -----------------------------------------------------------------

FIRST, LAST = CHANNELS = ("first", "last")  # where PyTorch has the channels of positions, before or after their axes
OF_INPUTS, OF_RESHAPE, UNKNOWN = "of inputs", "of a reshape", "unknown"  # where the layers so far do not say


@dataclass(frozen=True)
class Flow:
    """The values between two layers.

    Args:
        shape: shape of an example in dbp.
        channels: where PyTorch has the channels: "first", "last", or why that is not known.
        order: for each element of a row in dbp its index in PyTorch; None if both have the same order.
    """

    shape: Shape
    channels: str = OF_INPUTS
    order: Array | None = None

    @property
    def flat(self) -> Array | None:
        """Return the order of the elements of a flattened example; images begin with the channels first."""
        *lengths, channels = self.shape
        if not lengths:
            return self.order
        if self.channels == LAST or (self.channels != FIRST and len(lengths) == 1):
            return None
        numbers = np.arange(np.prod(self.shape)).reshape(channels, *lengths)
        order = np.moveaxis(numbers, 0, -1).reshape(-1)
        return None if np.array_equal(order, np.arange(len(order))) else order

    @property
    def is_ambiguous(self) -> bool:
        """Return True if the order depends on where the channels are, which is not known."""
        return self.channels == UNKNOWN and replace(self, channels=FIRST).flat is not None

    def through(self, layer: Any, shape: Shape) -> Flow:
        """Return the flow after a layer that PyTorch computes with the channels first, or last, or as they are.

        A model of PyTorch turns the axes for a layer that needs them otherwise; whether it turns them back is unknown.
        """
        if len(shape) == 1:
            return Flow(shape)
        if _ignores_channels(layer):
            return replace(self, shape=shape)
        takes = FIRST if isinstance(layer, TAKES_CHANNELS_FIRST) else LAST
        is_as_before = len(self.shape) == 1 or self.channels in (takes, OF_INPUTS, OF_RESHAPE)
        return Flow(shape, takes if is_as_before else UNKNOWN)


def _ignores_channels(layer: Any) -> bool:
    """Return True if it does not matter to a layer where the channels are."""
    if isinstance(layer, nn.PReLU):
        return layer.shared
    return isinstance(layer, (nn.Activation, nn.Dropout, *nn.AUGMENTATION_LAYERS))


TAKES_CHANNELS_FIRST = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.AveragePool1d,
    nn.AveragePool2d,
    nn.AveragePool3d,
    nn.SeparableConv2d,
    nn.SpectralConv1d,
    nn.SpectralConv2d,
    nn.Upsample,
    nn.PReLU,
    nn.BatchNorm,
    nn.GroupNorm,
)
# What may stand between flatten and dense.
ROW_KEEPING = (
    nn.Activation,
    nn.PReLU,
    nn.Dropout,
    nn.GaussianNoise,
    nn.Mixup,
    nn.BatchNorm,
    nn.LayerNorm,
    nn.RMSNorm,
)


def rules_of(model: nn.Model, weights: nn.InitialParameters, input_shape: Shapes, channels: str | None = None) -> Rules:
    """Return the rule for each weight of a model; names have slashes in place of PyTorch's dots.

    Args:
        model: the model.
        weights: its initial parameters.
        input_shape: shape of one example, or shapes by name.
        channels: where PyTorch has the channels when it flattens, "first" or "last", if the layers do not tell.

    Raises:
        UserError: the order of elements in PyTorch cannot be derived for some layer.
    """
    walk = _Walk(_shapes(model, weights, input_shape), channels, {})
    walk.through(model, "", each(Flow, input_shape))
    return walk.rules


def _shapes(model: nn.Model, weights: nn.InitialParameters, input_shape: Shapes) -> dict[str, Shape]:
    """Return the shape of one example's outputs by the path of the layer."""
    call = nn.call_with(weights.parameters, weights.running)
    call.trace = []
    dtype = next(iter(weights.parameters.values())).dtype
    model(nn.Scope(call), zeros_of(input_shape, 2, dtype))
    return {passed.path: np.shape(passed.outputs)[1:] for passed in call.trace}


@dataclass(frozen=True)
class _Walk:
    """A walk through the layers of a model, which collects the rules of their weights.

    Args:
        shapes: of one example's outputs, by the path of the layer.
        channels: see rules_of().
        rules: those found so far.
        orders: by which the rows of weights are reordered, likewise; None for those that stay.
    """

    shapes: Mapping[str, Shape]
    channels: str | None
    rules: Rules
    orders: dict[str, Array | None] = field(default_factory=dict)

    def through(self, layer: Any, path: str, flow: Any, memory: Flow | None = None) -> Any:
        """Add the rules of a layer and its inner layers; return the flow after it.

        Args:
            layer: the layer.
            path: of its weights.
            flow: of what it takes.
            memory: the flow of what an attention attends to, if that is another value.
        """
        if isinstance(layer, nn.Sequential):
            for name, inner in zip(layer.names, layer.layers, strict=True):
                flow = self.through(inner, f"{path}{name}/", flow)
            return flow
        if isinstance(layer, nn.Graph):
            return self._through_graph(layer, path, flow)
        if isinstance(layer, nn.Recompute):
            return self.through(layer.inner, path, flow)
        if isinstance(layer, nn.Residual):
            _must_be_in_order(layer, path, flow.order)
            main, shortcut = layer.paths
            if shortcut:
                self.through(shortcut, f"{path}shortcut/", flow)
            return self.through(main, path, flow)
        own = KINDS[type(layer)](layer) if type(layer) in KINDS else {}
        if memory is not None and memory.shape[-1] != flow.shape[-1]:
            own = cross_attention()
        for name, rule in own.items():
            theirs = rule.at(path)
            by_row = name == "weight" or not (isinstance(layer, nn.Dense) or _ignores_channels(layer))
            order = flow.order if by_row else None
            if not _alike(self.orders.setdefault(path + name, order), order):
                raise UserError(
                    f"{path.rstrip('/')}: weights of PyTorch that are shared cannot be put in order, as the numbers "
                    "that both uses take stand in different orders there; reorder them yourself, and leave "
                    "--from out"
                )
            self.rules[path + name] = theirs if order is None else theirs.then(order)
        return self._after(layer, path, flow, self.shapes.get(path.rstrip("/"), flow.shape))

    def _through_graph(self, graph: nn.Graph, path: str, given: Any) -> Flow:
        """Add the rules of layers that say what they take; return the flow of the only, or the first, output."""
        flows: dict[str, Flow] = as_dict(given, nn.INPUTS)
        if len(flows) == 1:
            flows.setdefault(nn.INPUTS, *flows.values())
        for step in graph.steps:
            inner, taken = f"{path}{step.weights or step.name}/", [flows[source] for source in step.takes]
            if isinstance(step.layer, nn.Attention):
                flows[step.name] = self.through(step.layer, inner, taken[0], memory=taken[-1])
            elif getattr(step.layer, "takes_several", False):
                flows[step.name] = _merged(step.layer, inner, taken, self.shapes[inner.rstrip("/")])
            else:
                flows[step.name] = self.through(step.layer, inner, taken[0])
        return flows[next(iter(graph.results.values()))]

    def _after(self, layer: Any, path: str, flow: Flow, shape: Shape) -> Flow:
        """Return the flow after a layer without inner layers."""
        if isinstance(layer, nn.Flatten):
            return Flow(shape, order=self._with_channels(layer, path, flow).flat)
        if isinstance(layer, nn.Reshape):
            before, after = self._with_channels(layer, path, flow), Flow(shape, OF_RESHAPE)
            if not _alike(before.flat, after.flat):
                _must_be_in_order(layer, path, before.flat if after.flat is None else after.flat)
            return after
        if flow.order is not None:
            if not isinstance(layer, (*ROW_KEEPING, nn.Dense)):
                _must_be_in_order(layer, path, flow.order)
            return Flow(shape) if isinstance(layer, nn.Dense) else replace(flow, shape=shape)
        if flow.channels == OF_RESHAPE and isinstance(layer, TAKES_CHANNELS_FIRST):
            _must_be_in_order(layer, path, replace(flow, channels=FIRST).flat)
        return flow.through(layer, shape)

    def _with_channels(self, layer: Any, path: str, flow: Flow) -> Flow:
        """Return the flow with its channels where the user says that they are, if that matters and is not known."""
        if not flow.is_ambiguous:
            return flow
        if self.channels is None:
            raise UserError(
                f"{path.rstrip('/')}: PyTorch turns the axes for a layer before it, and weights do not tell whether it "
                f"turns them back, so the order of what this {layer.kind} gets is not known; say whether channels are "
                "first or last there, with --channels first or --channels last"
            )
        return replace(flow, channels=self.channels)


def _merged(layer: Any, path: str, flows: Sequence[Flow], shape: Shape) -> Flow:
    """Return the flow after a layer that makes one value of several."""
    if any(flow.order is not None for flow in flows):  # rows of flattened images
        if isinstance(layer, nn.Concatenate):
            orders = [np.arange(flow.shape[-1]) if flow.order is None else flow.order for flow in flows]
            starts = np.cumsum([0, *map(len, orders[:-1])])
            return Flow(shape, order=np.concatenate([n + order for n, order in zip(starts, orders, strict=True)]))
        if not all(_alike(flow.order, flows[0].order) for flow in flows):
            _must_be_in_order(layer, path, next(flow.order for flow in flows if flow.order is not None))
        return replace(flows[0], shape=shape)
    known = {flow.channels for flow in flows if flow.channels in CHANNELS}
    if len(known) > 1:
        return Flow(shape, UNKNOWN)
    return Flow(shape, known.pop()) if known else replace(flows[0], shape=shape)


def _alike(one: Array | None, other: Array | None) -> bool:
    return np.array_equal(one, other) if one is not None and other is not None else one is other


def _must_be_in_order(layer: Any, path: str, order: Array | None) -> None:
    if order is not None:
        raise UserError(
            f"{path.rstrip('/')}: weights of PyTorch around a {layer.kind} of numbers of several positions and "
            "channels cannot be put in order, as PyTorch has channels first; reorder them yourself, and leave "
            "--from out"
        )
