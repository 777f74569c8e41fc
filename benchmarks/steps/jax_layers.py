"""The layers of the cases in JAX: their parameters, and functions of these and of the inputs.

Batch normalization keeps no running moments here, and a recurrent layer has one bias for each gate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import cases
import jax
import jax.numpy as jnp
import numpy as np
from cases import Layer, Network

DIMENSIONS = {"NHWC": ("NHWC", "HWIO", "NHWC"), "NCHW": ("NCHW", "OIHW", "NCHW")}
SEQUENCES = ("NWC", "WIO", "NWC")
ACTIVATIONS = {"linear": lambda x: x, "relu": jax.nn.relu, "gelu": jax.nn.gelu}
EPSILON = 1e-5  # added to variances
HIDDEN = -1e30  # the score of a later position


class Built(NamedTuple):
    """A layer or a network: a tree of its parameters, and the function of such a tree and the inputs."""

    parameters: Any
    apply: Callable[[Any, jax.Array], jax.Array]


class Builder:
    """The layers of one network.

    Args:
        layout: of images, NHWC or NCHW.
    """

    def __init__(self, layout: str):
        self.layout, self._rng = layout, np.random.default_rng(0)

    def network(self, network: Network, x: Any) -> Built:
        """Return a network for inputs of the shape and type of x."""
        parts: list[Built] = []
        for layer in network:
            parts.append(self.layer(layer, x.shape))
            x = jax.eval_shape(parts[-1].apply, parts[-1].parameters, x)

        def apply(parameters: list[Any], x: jax.Array) -> jax.Array:
            for part, of_part in zip(parts, parameters, strict=True):
                x = part.apply(of_part, x)
            return x

        return Built([part.parameters for part in parts], apply)

    def layer(self, layer: Layer, shape: tuple[int, ...]) -> Built:
        """Return a layer for inputs of a shape."""
        match layer:
            case cases.Dense(units, activation):
                function = ACTIVATIONS[activation]
                return Built(self._affine(shape[-1], units), lambda p, x: function(x @ p[0] + p[1]))
            case cases.Conv():
                return self._convolution(layer, shape)
            case cases.BatchNorm():
                return self._batch_norm(shape)
            case cases.LayerNorm():
                scale, shift = jnp.ones(shape[-1]), jnp.zeros(shape[-1])
                return Built((scale, shift), lambda p, x: normalized(x, (-1,)) * p[0] + p[1])
            case cases.Embedding(tokens, units):
                return Built(self._drawn((tokens, units), 1), lambda table, x: table[x])
            case cases.Position():
                return Built(self._drawn(shape[1:], 1), lambda table, x: x + table)
            case cases.Attention(heads):
                parameters = self._affine(shape[-1], 3 * shape[-1]), self._affine(shape[-1], shape[-1])
                return Built(parameters, lambda p, x: attend(p, x, heads))
            case cases.Recurrent(kind, units):
                return self._recurrent(kind, shape[-1], units)
            case cases.Residual():
                return self._residual(layer, jax.ShapeDtypeStruct(shape, jnp.float32))
        return Built((), lambda _, x: self._without_parameters(layer, x))

    # --- layers with parameters ---------------------------------------------------------------------------

    def _drawn(self, shape: tuple[int, ...], inputs: int) -> jax.Array:
        """Return random weights by He's rule."""
        return jnp.array(self._rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / inputs)))

    def _affine(self, inputs: int, units: int) -> tuple[jax.Array, jax.Array]:
        """Return a matrix and a bias."""
        return self._drawn((inputs, units), inputs), jnp.zeros(units)

    def _convolution(self, layer: cases.Conv, shape: tuple[int, ...]) -> Built:
        """Return a convolution with zero padding on every side."""
        channels = shape[self._channel_axis(len(shape))] // layer.groups
        window = (layer.size,) * layer.axes
        w = self._drawn((*window, channels, layer.filters), layer.size**layer.axes * channels)
        dimensions = SEQUENCES if layer.axes == 1 else DIMENSIONS[self.layout]
        if dimensions[1] == "OIHW":
            w = w.transpose(3, 2, 0, 1)
        bias = (self._per_channel(jnp.zeros(layer.filters), len(shape)),) if layer.bias else ()
        strides, sides = (layer.stride,) * layer.axes, [(layer.padding,) * 2] * layer.axes
        options = {"dimension_numbers": dimensions, "feature_group_count": layer.groups}

        def apply(parameters: tuple[jax.Array, ...], x: jax.Array) -> jax.Array:
            w, *bias = parameters
            y = jax.lax.conv_general_dilated(x, w, strides, sides, **options)
            return ACTIVATIONS[layer.activation](sum(bias, y))

        return Built((w, *bias), apply)

    def _batch_norm(self, shape: tuple[int, ...]) -> Built:
        """Return the normalization of each channel by its moments over the mini-batch."""
        channel = self._channel_axis(len(shape))
        axes = tuple(axis for axis in range(len(shape)) if axis != channel)
        scale = self._per_channel(jnp.ones(shape[channel]), len(shape))
        return Built((scale, jnp.zeros_like(scale)), lambda p, x: normalized(x, axes) * p[0] + p[1])

    def _recurrent(self, kind: str, inputs: int, units: int) -> Built:
        """Return a recurrent layer; one product weighs the inputs of all positions."""
        gates = {"lstm": 4, "gru": 3}[kind]
        parameters = [*self._affine(inputs, gates * units), self._drawn((units, gates * units), units)]
        if kind == "gru":
            parameters.append(jnp.zeros(units))
        step = {"lstm": step_of_lstm, "gru": step_of_gru}[kind]

        def apply(parameters: list[jax.Array], x: jax.Array) -> jax.Array:
            w, bias, *others = parameters
            first = (jnp.zeros((len(x), units)),) * {"lstm": 2, "gru": 1}[kind]
            z = (x @ w + bias).swapaxes(0, 1)
            return jax.lax.scan(lambda state, z: step(state, z, *others), first, z)[1].swapaxes(0, 1)

        return Built(parameters, apply)

    def _residual(self, layer: cases.Residual, x: Any) -> Built:
        """Return the activated sum of layers and a shortcut."""
        main, beside = self.network(layer.layers, x), self.network(layer.shortcut, x)
        function = ACTIVATIONS[layer.activation]
        return Built(
            (main.parameters, beside.parameters),
            lambda p, x: function(main.apply(p[0], x) + beside.apply(p[1], x)),
        )

    # --- axes ---------------------------------------------------------------------------------------------

    def _without_parameters(self, layer: Layer, x: jax.Array) -> jax.Array:
        """Return the outputs of a layer that has no parameters."""
        if isinstance(layer, cases.ReLU):
            return jax.nn.relu(x)
        if isinstance(layer, cases.Flatten):
            return x.reshape(len(x), -1)
        first = self._first_position_axis(x.ndim)
        if isinstance(layer, cases.GlobalAverage):
            return x.mean(tuple(range(first, first + x.ndim - 2)))
        return pool(x, range(first, first + layer.axes))

    def _first_position_axis(self, ndim: int) -> int:
        """Return the number of the first axis of positions."""
        return 2 if ndim == 4 and self.layout == "NCHW" else 1

    def _channel_axis(self, ndim: int) -> int:
        return 1 if self._first_position_axis(ndim) == 2 else ndim - 1

    def _per_channel(self, vector: jax.Array, ndim: int) -> jax.Array:
        """Return a vector over channels in the shape that is added to inputs with so many axes."""
        return vector[:, None, None] if self._channel_axis(ndim) == 1 and ndim == 4 else vector


# --- functions --------------------------------------------------------------------------------------------


def normalized(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Return x with mean 0 and variance 1 over some axes."""
    return (x - x.mean(axes, keepdims=True)) * jax.lax.rsqrt(x.var(axes, keepdims=True) + EPSILON)


def pool(x: jax.Array, axes: range) -> jax.Array:
    """Return the largest of every two along some axes, in the form that XLA runs faster on CPUs than reduce_window."""
    halves = [(length // 2, 2) if axis in axes else (length,) for axis, length in enumerate(x.shape)]
    tiles = x.reshape(sum(halves, ()))
    return tiles.max(tuple(axes.start + 2 * i + 1 for i in range(len(axes))))


def attend(parameters: Any, x: jax.Array, heads: int) -> jax.Array:
    """Return causal self-attention."""
    (w, b), (w_out, b_out) = parameters
    examples, length, channels = x.shape
    q, k, v = (x @ w + b).reshape(examples, length, 3, heads, channels // heads).transpose(2, 0, 3, 1, 4)
    scores = q @ k.swapaxes(2, 3) / np.sqrt(channels / heads)
    scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, HIDDEN)
    return (jax.nn.softmax(scores) @ v).swapaxes(1, 2).reshape(x.shape) @ w_out + b_out


def step_of_lstm(state: tuple[jax.Array, ...], z: jax.Array, u: jax.Array) -> tuple:
    """Return the state and the output after one position."""
    h, memory = state
    let_in, keep, candidate, show = jnp.split(z + h @ u, 4, axis=1)
    memory = jax.nn.sigmoid(keep) * memory + jax.nn.sigmoid(let_in) * jnp.tanh(candidate)
    h = jax.nn.sigmoid(show) * jnp.tanh(memory)
    return (h, memory), h


def step_of_gru(state: tuple[jax.Array, ...], z: jax.Array, u: jax.Array, shift: jax.Array) -> tuple:
    """Return the state and the output after one position."""
    (h,) = state
    (reset, update, candidate), inner = jnp.split(z, 3, axis=1), jnp.split(h @ u, 3, axis=1)
    update = jax.nn.sigmoid(update + inner[1])
    candidate = jnp.tanh(candidate + jax.nn.sigmoid(reset + inner[0]) * (inner[2] + shift))
    h = candidate * (1 - update) + update * h
    return (h,), h
