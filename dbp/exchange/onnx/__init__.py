"""Models as ONNX graphs, with one file for each group of layers, as in nn/layers."""

from dbp.exchange.onnx.model import onnx_model

__all__ = ["onnx_model"]
