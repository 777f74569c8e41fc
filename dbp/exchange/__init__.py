"""Models in the formats of other programs: ONNX."""

from dbp.exchange.onnx import onnx_model

__all__ = ["onnx_model"]
