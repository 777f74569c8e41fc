"""Export to safetensors, NumPy archives and ONNX, and import of weights as checkpoints."""

from dbp.exchange.export import ONNX, PYTORCH, export, export_model
from dbp.exchange.onnx import onnx_model
from dbp.exchange.to_checkpoint import import_weights

__all__ = ["ONNX", "PYTORCH", "export", "export_model", "import_weights", "onnx_model"]
