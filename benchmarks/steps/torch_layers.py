"""The layers of the cases as PyTorch's modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cases
import torch
import torch.nn.functional as F  # noqa: N812  the name that everyone gives it
from cases import Layer, Network
from torch import nn

ACTIVATIONS = {"linear": nn.Identity, "relu": nn.ReLU, "gelu": lambda: nn.GELU(approximate="tanh")}


class GlobalAverage(nn.Module):
    """The mean of each channel over all positions."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (examples, channels) for (examples, channels, positions...)."""
        return x.mean(dim=tuple(range(2, x.dim())))


class Position(nn.Module):
    """The addition of a learned vector to each position."""

    def __init__(self, length: int, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(length, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum."""
        return x + self.weight


class Attention(nn.Module):
    """Causal self-attention by PyTorch's fused kernel; one product makes queries, keys and values."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.inputs, self.outputs = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the attended values, projected."""
        examples, length, channels = x.shape
        parts = self.inputs(x).view(examples, length, 3, self.heads, channels // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.outputs(attended.transpose(1, 2).reshape(x.shape))


class States(nn.Module):
    """The states of a recurrent layer at every position."""

    def __init__(self, kind: str, inputs: int, units: int):
        super().__init__()
        self.layer = {"lstm": nn.LSTM, "gru": nn.GRU}[kind](inputs, units, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (examples, length, units)."""
        return self.layer(x)[0]


class Residual(nn.Module):
    """The activated sum of layers and of a shortcut."""

    def __init__(self, layers: nn.Module, shortcut: nn.Module, activation: nn.Module):
        super().__init__()
        self.layers, self.shortcut, self.activation = layers, shortcut, activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return outputs of the inputs' shape, or of the shortcut's."""
        return self.activation(self.layers(x) + self.shortcut(x))


def model_of(network: Network, x: torch.Tensor) -> nn.Sequential:
    """Return a network as PyTorch's; it is applied to examples x, channels first, to find the shapes of its layers."""
    modules: list[nn.Module] = []
    with torch.no_grad():
        for layer in network:
            modules.append(MAKERS[type(layer)](layer, x))
            x = modules[-1](x)
            if isinstance(layer, cases.Dense | cases.Conv) and layer.activation != "linear":
                modules.append(ACTIVATIONS[layer.activation]())
    return nn.Sequential(*modules)


def _convolution(layer: cases.Conv, x: torch.Tensor) -> nn.Module:
    """Return a convolution of images or sequences."""
    made = nn.Conv2d if layer.axes == 2 else nn.Conv1d
    how = {name: getattr(layer, name) for name in ("stride", "padding", "groups", "bias")}
    return made(x.shape[1], layer.filters, layer.size, **how)


MAKERS: dict[type[Layer], Callable[[Any, torch.Tensor], nn.Module]] = {  # for inputs x, without activations
    cases.Dense: lambda layer, x: nn.Linear(x.shape[-1], layer.units),
    cases.Conv: _convolution,
    cases.BatchNorm: lambda _, x: nn.BatchNorm2d(x.shape[1]),
    cases.LayerNorm: lambda _, x: nn.LayerNorm(x.shape[-1]),
    cases.ReLU: lambda _, x: nn.ReLU(),
    cases.Pool: lambda layer, x: nn.MaxPool2d(2) if layer.axes == 2 else nn.MaxPool1d(2),
    cases.GlobalAverage: lambda _, x: GlobalAverage(),
    cases.Flatten: lambda _, x: nn.Flatten(),
    cases.Embedding: lambda layer, x: nn.Embedding(layer.tokens, layer.units),
    cases.Position: lambda _, x: Position(*x.shape[1:]),
    cases.Attention: lambda layer, x: Attention(x.shape[-1], layer.heads),
    cases.Recurrent: lambda layer, x: States(layer.kind, x.shape[-1], layer.units),
    cases.Residual: lambda layer, x: Residual(
        model_of(layer.layers, x), model_of(layer.shortcut, x), ACTIVATIONS[layer.activation]()
    ),
}


def spare_biases(network: Network) -> int:
    """Return how many parameters PyTorch's recurrent layers have that add to others, as each gate has two biases."""
    gates = {"lstm": 4, "gru": 2}  # of the GRU's candidate both count, as the reset gate lies between
    return sum(gates[layer.kind] * layer.units for layer in network if isinstance(layer, cases.Recurrent))
