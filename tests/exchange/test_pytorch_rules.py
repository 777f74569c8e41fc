"""Weights of real PyTorch modules of several arrays: spectral convolutions, and attention to a memory."""

import pytest

from dbp import nn
from tests.exchange.torch_import import compare, torch

t = torch.nn


class Spectral(torch.nn.Module):
    """SpectralConv1d, or SpectralConv2d, as in the code of Li et al. 2021, with channels first."""

    def __init__(self, channels, filters, *modes):
        super().__init__()
        self.modes = modes
        for number in range(1, len(modes) + 1):
            weights = torch.rand(channels, filters, *modes, dtype=torch.cfloat)
            self.register_parameter(f"weights{number}", torch.nn.Parameter(weights))

    def forward(self, x):
        axes, letters = [*range(2, x.ndim)], "xy"[: x.ndim - 2]
        spectrum = torch.fft.rfftn(x, dim=axes)
        y = torch.zeros(len(x), self.weights1.shape[1], *spectrum.shape[2:], dtype=spectrum.dtype)
        for number, weights in enumerate(self.parameters()):
            first = slice(-self.modes[0], None) if number else slice(self.modes[0])
            index = (..., first, *map(slice, self.modes[1:]))
            y[index] = torch.einsum(f"bi{letters},io{letters}->bo{letters}", spectrum[index], weights.to(y))
        return torch.fft.irfftn(y, s=x.shape[2:], dim=axes)


def test_spectral_convolutions(tmp_path):
    module = t.Sequential(Spectral(3, 4, 2, 3), Spectral(4, 2, 3, 1))
    layers = [nn.SpectralConv2d(4, (2, 3)), nn.SpectralConv2d(2, (3, 1))]
    names = ["0=spectral_conv2d_1", "1=spectral_conv2d_2"]
    compare(module, layers, (7, 6, 3), names, tmp_path)
    compare(t.Sequential(Spectral(6, 4, 3)), [nn.SpectralConv1d(4, 3)], (9, 6), ["0=spectral_conv1d_1"], tmp_path)


class Cross(torch.nn.Module):
    """Attention of a sequence to another, made of it, with as many channels or fewer."""

    def __init__(self, width):
        super().__init__()
        self.memory = t.Linear(6, width)
        self.inner = t.MultiheadAttention(6, 2, kdim=width, vdim=width, batch_first=True)

    def forward(self, x):
        memory = self.memory(x)
        return self.inner(x, memory, memory, need_weights=False)[0]


@pytest.mark.parametrize("width", [6, 4])
def test_attention_to_a_memory(tmp_path, width):
    layers = [nn.Named(nn.Dense(width), name="memory"), nn.Named(nn.Attention(2), "attend", from_=("inputs", "memory"))]
    compare(Cross(width), layers, (5, 6), ["inner=attend"], tmp_path, channels_last=True)
