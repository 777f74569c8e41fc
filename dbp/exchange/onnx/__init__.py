"""Models as ONNX graphs, with one file for each group of layers, as in nn/layers."""

from dbp.exchange.onnx.layers import add
from dbp.exchange.onnx.model import onnx_model

__all__ = ["add", "onnx_model"]
