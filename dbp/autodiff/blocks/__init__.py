"""Blocks: compositions of primitives, fused into one node of the graph with fewer passes over memory.

The specification of a block is the composition itself. On plain arrays a fused version of value and derivative runs in
its place. When the derivative is to be differentiated again, the block records its specification instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbp import lazy
from dbp.autodiff.blocks.activations import gelu_block, gelu_exact_block, silu_block
from dbp.autodiff.blocks.addition import add_relu_block
from dbp.autodiff.blocks.batch_normalization import batch_normalize_block, channel_moments
from dbp.autodiff.blocks.block import Block
from dbp.autodiff.blocks.constant_convolution import ConstantConvolution
from dbp.autodiff.blocks.constant_dense import ConstantDense
from dbp.autodiff.blocks.convolution import convolution_block
from dbp.autodiff.blocks.cross_entropy import cross_entropy_block
from dbp.autodiff.blocks.dense import dense_block
from dbp.autodiff.blocks.normalization import OtherParts, normalize_block
from dbp.autodiff.blocks.row_normalization import layer_normalize_block, rms_normalize_block
from dbp.autodiff.blocks.squared_error import squared_error_block

if TYPE_CHECKING:
    from dbp.autodiff.blocks.attention import attention_block, self_attention_block
    from dbp.autodiff.blocks.recurrent import gru_block, gru_by_position, lstm_block, lstm_by_position
    from dbp.autodiff.blocks.transposed_convolution import transposed_convolution_block

_HOMES = {
    **dict.fromkeys(("attention_block", "self_attention_block"), "attention"),
    **dict.fromkeys(("gru_block", "gru_by_position", "lstm_block", "lstm_by_position"), "recurrent"),
    "transposed_convolution_block": "transposed_convolution",
}

__all__ = [
    "Block",
    "ConstantConvolution",
    "ConstantDense",
    "OtherParts",
    "add_relu_block",
    "attention_block",
    "batch_normalize_block",
    "channel_moments",
    "convolution_block",
    "cross_entropy_block",
    "dense_block",
    "gelu_block",
    "gelu_exact_block",
    "gru_block",
    "gru_by_position",
    "layer_normalize_block",
    "lstm_block",
    "lstm_by_position",
    "normalize_block",
    "rms_normalize_block",
    "self_attention_block",
    "silu_block",
    "squared_error_block",
    "transposed_convolution_block",
]


def __dir__() -> list[str]:
    return sorted(__all__)


if not TYPE_CHECKING:  # else type checkers would take any name

    def __getattr__(name: str) -> Any:
        return lazy.attribute(__name__, _HOMES, name)
