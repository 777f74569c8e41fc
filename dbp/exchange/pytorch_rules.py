"""Weights of PyTorch's layers and of dbp's, made of each other: other names, other orders of axes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from dbp import nn
from dbp.types import Array


class Rule(NamedTuple):
    """How an array of dbp is made of arrays of PyTorch, and they of it.

    Args:
        names: of the arrays of PyTorch.
        make: returns the array of dbp, given those of PyTorch; raises ValueError or IndexError if shapes do not fit.
        back: returns the arrays of PyTorch, given that of dbp. Where several rules name one array of PyTorch, each
            returns a part; the parts are joined along the first axis, in the order of the rules.
    """

    names: tuple[str, ...]
    make: Callable[..., Array]
    back: Callable[[Array], tuple[Array, ...]]

    def at(self, path: str) -> Rule:
        """Return this rule for a layer inside others, whose names follow their path."""
        return self._replace(names=tuple(path + name for name in self.names))

    def then(self, order: Array) -> Rule:
        """Return this rule with the rows of the array of dbp in another order."""
        return Rule(
            self.names,
            lambda *arrays: self.make(*arrays)[order],
            lambda array: self.back(array[np.argsort(order)]),
        )


Rules = dict[str, Rule]


def same(name: str) -> Rule:
    """Return the rule of an array that both have alike."""
    return Rule((name,), lambda array: array, lambda array: (array,))


def _turned(name: str) -> Rule:
    return Rule((name,), lambda array: array.T, lambda array: (array.T,))


def _dense(_layer: nn.Dense) -> Rules:
    return {"weight": _turned("weight"), "bias": same("bias")}


def _filters(layer: Any) -> Rules:
    """Return the rules of a convolution, transposed or not, whose kernel PyTorch has with the window's axes last."""

    def kernel(w: Array) -> Array:
        turned = w.transpose(*range(2, w.ndim), 1, 0)
        return turned[None] if layer.axes == 1 else turned

    def back(w: Array) -> tuple[Array]:
        turned = w[0] if layer.axes == 1 else w
        return (turned.transpose(-1, -2, *range(turned.ndim - 2)),)

    return {"weight": Rule(("weight",), kernel, back), "bias": same("bias")}


def _separable(layer: nn.SeparableConv2d) -> Rules:
    """Return the rules of two convolutions of PyTorch that have the names of the parts."""
    return {
        f"{part}/{name}": rule.at(f"{part}/")
        for part, convolution in layer.parts(1).items()
        for name, rule in _filters(convolution).items()
    }


def _prelu(_layer: nn.PReLU) -> Rules:
    return {"slope": same("weight")}


def _norm(_layer: nn.BatchNorm | nn.LayerNorm | nn.RMSNorm | nn.GroupNorm) -> Rules:
    names = {"scale": "weight", "shift": "bias", "running_mean": "running_mean", "running_variance": "running_var"}
    return {ours: same(theirs) for ours, theirs in names.items()}


def _recurrent(layer: nn.LSTM | nn.GRU, of_pass: Callable[[str], Rules]) -> Rules:
    """Return the rules of stacked layers and directions, given those of one by the end of PyTorch's names."""
    rules: Rules = {}
    for number, paths in enumerate(layer.paths):
        for path, way in zip(paths, ("", "_reverse"), strict=False):
            own = of_pass(f"_l{number}{way}")
            rules |= {f"{path}/{name}" if path else name: rule for name, rule in own.items()}
    return rules


def _gates(end: str) -> Rules:
    return {
        "weight": _turned(f"weight_ih{end}"),
        "recurrent": _turned(f"weight_hh{end}"),
        "bias": Rule((f"bias_ih{end}", f"bias_hh{end}"), np.add, lambda array: (array, np.zeros_like(array))),
    }


def _lstm(layer: nn.LSTM) -> Rules:
    return _recurrent(layer, _gates)


def _gru(layer: nn.GRU) -> Rules:
    """Return the rules of a GRU: each gate has two biases, and the reset gate scales the second of the candidate."""
    border = 2 * layer.units

    def bias(first: Array, second: Array) -> Array:
        return first + np.where(np.arange(len(second)) < border, second, 0)

    def of_pass(end: str) -> Rules:
        return _gates(end) | {
            "bias": Rule(
                (f"bias_ih{end}", f"bias_hh{end}"), bias, lambda array: (array, np.zeros_like(array[:border]))
            ),
            "candidate_bias": Rule((f"bias_hh{end}",), lambda second: second[border:], lambda array: (array,)),
        }

    return _recurrent(layer, of_pass)


def _attention(_layer: nn.Attention) -> Rules:
    """Return the rules of attention: PyTorch stores the matrices of query, key and value as one."""

    def part(number: int, array: Array) -> Array:
        return np.split(array, 3)[number].T

    rules = {"output/weight": _turned("out_proj/weight"), "output/bias": same("out_proj/bias")}
    for number, name in enumerate(("query", "key", "value")):
        make = partial(part, number)
        rules[f"{name}/weight"] = Rule(("in_proj_weight",), make, lambda array: (array.T,))
        rules[f"{name}/bias"] = Rule(("in_proj_bias",), make, lambda array: (array,))
    return rules


def cross_attention() -> Rules:
    """Return the rules of attention to a memory of other channels, of which PyTorch stores each matrix by itself."""
    apart = {f"{name}/weight": _turned(f"{name[0]}_proj_weight") for name in ("query", "key", "value")}
    return _attention(nn.Attention(1)) | apart


def _parts(z: Array) -> Array:
    """Return the real parts of complex matrices (..., channels, filters), and after them the imaginary parts."""
    if z.dtype.kind != "c":
        raise ValueError("its numbers are not complex")
    return np.concatenate([z.real, z.imag], axis=-1)


def _complex(w: Array) -> Array:
    """Return the inverse of _parts()."""
    real, imaginary = np.split(w, 2, axis=-1)
    return np.asarray(real + 1j * imaginary)


def _spectral1d(_layer: nn.SpectralConv1d) -> Rules:
    """Return the rules of SpectralConv1d as its authors have it: one complex array (channels, filters, modes)."""

    def make(z: Array) -> Array:
        return _parts(z.transpose(2, 0, 1))

    return {"weight": Rule(("weights1",), make, lambda w: (_complex(w).transpose(1, 2, 0),))}


def _spectral2d(_layer: nn.SpectralConv2d) -> Rules:
    """Return the rules of SpectralConv2d as its authors have it: a complex array for each sign along the height."""

    def make(above: Array, below: Array) -> Array:
        return _parts(np.concatenate([z.transpose(2, 3, 0, 1) for z in (above, below)]))

    def back(w: Array) -> tuple[Array, ...]:
        return tuple(z.transpose(2, 3, 0, 1) for z in np.split(_complex(w), 2))

    return {"weight": Rule(("weights1", "weights2"), make, back)}


KINDS: dict[type, Callable[[Any], Rules]] = {
    nn.Dense: _dense,
    nn.Conv1d: _filters,
    nn.Conv2d: _filters,
    nn.Conv3d: _filters,
    nn.ConvTranspose1d: _filters,
    nn.ConvTranspose2d: _filters,
    nn.ConvTranspose3d: _filters,
    nn.SeparableConv2d: _separable,
    nn.PReLU: _prelu,
    nn.BatchNorm: _norm,
    nn.LayerNorm: _norm,
    nn.RMSNorm: _norm,
    nn.GroupNorm: _norm,
    nn.LSTM: _lstm,
    nn.GRU: _gru,
    nn.Attention: _attention,
    nn.SpectralConv1d: _spectral1d,
    nn.SpectralConv2d: _spectral2d,
}  # embeddings and positions are the same in both
