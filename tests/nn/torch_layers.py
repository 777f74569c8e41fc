"""dbp's layers built of PyTorch's operations."""

import functools
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest

from dbp import nn

torch = pytest.importorskip("torch", reason="torch is not installed, so there is nothing to compare with")
functional = torch.nn.functional
ACTIVATIONS = {
    "linear": lambda x: x,
    "relu": functional.relu,
    "leaky_relu": functional.leaky_relu,
    "elu": functional.elu,
    "silu": functional.silu,
    "gelu": functools.partial(functional.gelu, approximate="tanh"),
    "gelu_exact": functional.gelu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": functional.softplus,
    "softmax": functools.partial(functional.softmax, dim=-1),
}


# --- models in PyTorch ------------------------------------------------------------------------------


@dataclass
class TorchScope:
    """Where a layer finds its weights and running moments."""

    weights: dict
    training: bool
    running: dict = field(default_factory=dict)
    path: str = ""

    def inside(self, name):
        return TorchScope(self.weights, self.training, self.running, f"{self.path}{name}/")

    def __call__(self, name):
        return self.weights.get(self.path + name)


def first(x):
    """Move channels to where PyTorch has them."""
    return x.movedim(-1, 1)


def last(x):
    return x.movedim(1, -1)


@functools.singledispatch
def follow(layer, scope, x):
    """Apply PyTorch's version of a layer to x."""
    raise NotImplementedError(type(layer))


@follow.register
def _(layer: nn.Sequential, scope, x):
    for name, inner in zip(layer.names, layer.layers, strict=True):
        x = follow(inner, scope.inside(name), x)
    return x


@follow.register
def _(layer: nn.Residual, scope, x):
    main, shortcut = layer.paths
    straight = follow(shortcut, scope.inside("shortcut"), x) if shortcut else x
    return ACTIVATIONS[layer.activation](follow(main, scope, x) + straight)


@follow.register
def _(layer: nn.Recompute, scope, x):
    return follow(layer.inner, scope, x)


@follow.register
def _(layer: nn.Graph, scope, x):
    values = {"inputs": x}
    for name, given in zip(layer.names, layer.layers, strict=True):
        inner, takes = (given.layer, given.takes) if isinstance(given, nn.Named) else (given, ())
        path = inner.layer if isinstance(inner, nn.Shared) else name
        if isinstance(inner, nn.Shared):
            inner = next(one.layer for one in layer.layers if getattr(one, "name", "") == path)
        taken = [values[source] for source in takes or [list(values)[-1]]]
        values[name] = follow(inner, scope.inside(path), taken if len(taken) > 1 else taken[0])
    return values[name]


@follow.register
def _(layer: nn.Concatenate, _scope, x):
    return torch.cat(x, dim=layer.axis)


@follow.register
def _(_layer: nn.Add, _scope, x):
    return sum(x[1:], x[0])


@follow.register
def _(_layer: nn.Subtract, _scope, x):
    return x[0] - sum(x[2:], x[1])


@follow.register
def _(_layer: nn.Multiply, _scope, x):
    return functools.reduce(torch.mul, x)


@follow.register
def _(_layer: nn.Average, _scope, x):
    return sum(x[1:], x[0]) / len(x)


@follow.register
def _(layer: nn.Dense, scope, x):
    return ACTIVATIONS[layer.activation](functional.linear(x, scope("weight").T, scope("bias")))


@follow.register
def _(layer: nn.Activation, _scope, x):
    return ACTIVATIONS[layer.function](x)


@follow.register
def _(_layer: nn.Flatten, _scope, x):
    return torch.flatten(x, 1)


@follow.register
def _(layer: nn.Reshape, _scope, x):
    return x.reshape(len(x), *layer.shape)


def _kernel(layer, scope):
    """Return the kernel of a convolution, transposed or not, with its channels in PyTorch's order."""
    w = scope("weight")[0] if layer.axes == 1 else scope("weight")
    return w.permute(-1, -2, *range(w.ndim - 2))


@follow.register(nn.Conv1d)
@follow.register(nn.Conv2d)
@follow.register(nn.Conv3d)
def _(layer, scope, x):
    convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[layer.axes - 1]
    x, padding = first(x), layer.padding
    if padding == "causal":
        x, padding = functional.pad(x, (layer.dilation * (layer.size - 1), 0)), 0
    z = convolve(x, _kernel(layer, scope), scope("bias"), layer.stride, padding, layer.dilation, layer.groups)
    return ACTIVATIONS[layer.activation](last(z))


@follow.register(nn.ConvTranspose1d)
@follow.register(nn.ConvTranspose2d)
@follow.register(nn.ConvTranspose3d)
def _(layer, scope, x):
    names = functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d
    padding = 0 if layer.padding == "valid" else layer.padding
    others = layer.stride, padding, layer.output_padding, layer.groups, layer.dilation
    z = names[layer.axes - 1](first(x), _kernel(layer, scope), scope("bias"), *others)
    return ACTIVATIONS[layer.activation](last(z))


@follow.register
def _(layer: nn.SeparableConv2d, scope, x):
    for name, part in layer.parts(x.shape[-1]).items():
        x = follow(part, scope.inside(name), x)
    return x


@follow.register
def _(layer: nn.Upsample, _scope, x):
    factor = layer.factor if isinstance(layer.factor, int) else tuple(map(float, layer.factor))
    return last(functional.interpolate(first(x), scale_factor=factor, mode=layer.method))


@follow.register
def _(_layer: nn.PReLU, scope, x):
    return last(functional.prelu(first(x), scope("slope")))


@follow.register
def _(layer: nn.RMSNorm, scope, x):
    return functional.rms_norm(x, x.shape[-1:], scope("scale"), layer.epsilon)


@follow.register(nn.MaxPool1d)
@follow.register(nn.MaxPool2d)
@follow.register(nn.MaxPool3d)
def _(layer, _scope, x):
    pool = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[layer.axes - 1]
    padding = 0 if layer.padding == "valid" else layer.padding
    return last(pool(first(x), layer.size, layer.stride, padding, layer.dilation))


@follow.register(nn.AveragePool1d)
@follow.register(nn.AveragePool2d)
@follow.register(nn.AveragePool3d)
def _(layer, _scope, x):
    assert layer.dilation == 1, "PyTorch has none"
    pool = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[layer.axes - 1]
    padding = 0 if layer.padding == "valid" else layer.padding
    return last(pool(first(x), layer.size, layer.stride, padding, count_include_pad=False))


@follow.register
def _(_layer: nn.GlobalAveragePool, _scope, x):
    return x.mean(tuple(range(1, x.ndim - 1)))


@follow.register
def _(_layer: nn.GlobalMaxPool, _scope, x):
    return x.amax(tuple(range(1, x.ndim - 1)))


@follow.register
def _(layer: nn.BatchNorm, scope, x):
    mean, variance = scope.running[scope.path]
    scale, shift = scope("scale"), scope("shift")
    return last(
        functional.batch_norm(first(x), mean, variance, scale, shift, scope.training, 1 - layer.decay, layer.epsilon)
    )


@follow.register
def _(layer: nn.LayerNorm, scope, x):
    return functional.layer_norm(x, x.shape[-1:], scope("scale"), scope("shift"), layer.epsilon)


@follow.register
def _(layer: nn.GroupNorm, scope, x):
    return last(functional.group_norm(first(x), layer.groups, scope("scale"), scope("shift"), layer.epsilon))


@follow.register
def _(_layer: nn.Embedding, scope, x):
    return functional.embedding(x, scope("weight"))


@follow.register
def _(_layer: nn.Position, scope, x):
    return x + scope("weight")


def _recurrent(layer, scope, x, function, bias):
    weights, ways = [], 1 + layer.bidirectional
    for path in (path for paths in layer.paths for path in paths):
        way = scope.inside(path) if path else scope
        weights += [way("weight").T, way("recurrent").T, way("bias"), bias(way)]
    state = torch.zeros(layer.layers * ways, len(x), layer.units).to(x)
    start = (state, state) if function is torch.lstm else state
    y, last, *_ = function(x, start, weights, True, layer.layers, 0.0, scope.training, layer.bidirectional, True)
    return y if layer.sequences else torch.cat([*last[-ways:]], dim=-1)


@follow.register
def _(layer: nn.GRU, scope, x):
    none = torch.zeros(2 * layer.units).to(x)
    return _recurrent(layer, scope, x, torch.gru, lambda way: torch.cat([none, way("candidate_bias")]))


@follow.register
def _(layer: nn.LSTM, scope, x):
    none = torch.zeros(4 * layer.units).to(x)
    return _recurrent(layer, scope, x, torch.lstm, lambda _way: none)


@follow.register
def _(layer: nn.Attention, scope, x):
    names, (queries, memory) = ("query", "key", "value"), x if isinstance(x, tuple) else (x, x)
    weights = [scope(f"{name}/weight").T for name in names]
    sequences = queries.movedim(0, 1), *[memory.movedim(0, 1)] * 2
    y, _ = functional.multi_head_attention_forward(
        *sequences, queries.shape[-1], layer.heads, None,
        torch.cat([scope(f"{name}/bias") for name in names]) if layer.bias else None,
        None, None, False, 0.0, scope("output/weight").T, scope("output/bias"),
        attn_mask=torch.ones(queries.shape[1], memory.shape[1], dtype=torch.bool).triu(1) if layer.causal else None,
        use_separate_proj_weight=True,
        **dict(zip(("q_proj_weight", "k_proj_weight", "v_proj_weight"), weights, strict=True)),
    )  # fmt: skip
    return y.movedim(0, 1)


@dataclass(frozen=True)
class Cross:
    """Attention of some sequences of a sequence to others, with fewer channels."""

    kind: ClassVar[str] = "cross"
    attention: nn.Attention

    def __call__(self, scope, x):
        return self.attention(scope, (x[:, :4], x[:, 1:, 1:]))


@follow.register
def _(layer: Cross, scope, x):
    return follow(layer.attention, scope, (x[:, :4], x[:, 1:, 1:]))


@follow.register
def _(layer: nn.FourierFeatures, _scope, x):
    angles = 2 * np.pi * x @ torch.tensor(layer.frequencies, dtype=x.dtype).T
    return torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)


@follow.register
def _(layer: nn.SpectralConv1d, scope, x):
    """Apply the layer as the authors' SpectralConv1d does, with the axes of dbp."""
    w = torch.complex(*scope("weight").split(layer.filters, dim=-1))
    spectrum = torch.fft.rfft(x, dim=1)
    y = torch.zeros(*spectrum.shape[:-1], layer.filters, dtype=w.dtype)
    y[:, : layer.modes] = torch.einsum("bki,kio->bko", spectrum[:, : layer.modes], w)
    return torch.fft.irfft(y, n=x.shape[1], dim=1)


@follow.register
def _(layer: nn.SpectralConv2d, scope, x):
    """Apply the layer as the authors' SpectralConv2d does, with the axes of dbp."""
    down, across = (layer.modes, layer.modes) if isinstance(layer.modes, int) else layer.modes
    w = torch.complex(*scope("weight").split(layer.filters, dim=-1))
    spectrum = torch.fft.rfft2(x, dim=(1, 2))
    y = torch.zeros(*spectrum.shape[:-1], layer.filters, dtype=w.dtype)
    for rows, matrices in ((slice(down), w[:down]), (slice(-down, None), w[down:])):
        y[:, rows, :across] = torch.einsum("bhwi,hwio->bhwo", spectrum[:, rows, :across], matrices)
    return torch.fft.irfft2(y, s=x.shape[1:3], dim=(1, 2))
