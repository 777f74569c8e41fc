"""A model with its weights as an ONNX model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dbp.errors import UserError
from dbp.exchange.library import library
from dbp.exchange.onnx.graph import Graph, Place, Shape, Value
from dbp.exchange.onnx.layers import add
from dbp.nn import Model, as_model, check_model_weights, initial_parameters
from dbp.types import Array
from dbp.version import VERSION

OPERATORS, LAYOUT = 21, 10  # versions of ONNX's operators and of its file, which go together
LARGEST = 2**31 - 2**20  # bytes of weights, as a message of protobuf ends at 2 GiB
INPUTS, OUTPUTS = "inputs", "outputs"


def onnx_model(
    model: Model | Any,
    weights: Mapping[str, Array],
    input_shape: Shape,
    scale: float = 1.0,
    properties: Mapping[str, str] | None = None,
) -> Any:
    """An onnx.ModelProto that computes what the model gives in evaluation, for any number of examples.

    Args:
        model: of dbp's layers; a layer, or a list of layers.
        weights: parameters and running moments by name, in one type, which is that of the graph.
        input_shape: of one example, channels last.
        scale: which the graph multiplies its inputs by.
        properties: metadata of the file, beside the version of dbp.

    Raises:
        UserError: a layer is of the user's own, weights and model do not fit together, or onnx is not installed.
    """
    onnx = library("onnx", "ONNX")
    model, dtype = as_model(model), next(iter(weights.values())).dtype
    graph = Graph(_checked(model, weights, input_shape, dtype), dtype)
    top, x = Place(graph), Value.plain(INPUTS, input_shape)
    if scale != 1:
        x = top.apply("Mul", x, top.constant("scale_of_inputs", float(scale)))
    y = top.plain(add(top, model, x))
    graph.rename(y.name, OUTPUTS)
    _must_fit(graph)
    return _proto(onnx, graph, input_shape, y.shape, {"dbp_version": VERSION, **(properties or {})})


def _checked(model: Model, weights: Mapping[str, Array], input_shape: Shape, dtype: np.dtype[Any]) -> dict[str, Array]:
    """The weights, known to be those of the model for such inputs."""
    initial = initial_parameters(model, np.zeros((2, *input_shape), dtype), 0, dtype)
    check_model_weights(initial, weights, f"inputs of shape {input_shape}")
    return dict(weights)


def _must_fit(graph: Graph) -> None:
    total = sum(array.nbytes for array in graph.constants.values())
    if total > LARGEST:
        raise UserError(
            f"ONNX files hold at most {LARGEST:,} bytes of weights, but the model has {total:,}; export them as "
            ".safetensors"
        )


def _proto(onnx: Any, graph: Graph, inputs: Shape, outputs: Shape, properties: Mapping[str, str]) -> Any:
    helper = onnx.helper
    kind = helper.np_dtype_to_tensor_dtype(graph.dtype)
    nodes = [
        helper.make_node(n.op, n.inputs, n.outputs, name=next(filter(None, n.outputs)), **n.attributes)
        for n in graph.nodes
    ]
    made = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info(INPUTS, kind, ["examples", *inputs])],
        [helper.make_tensor_value_info(OUTPUTS, kind, ["examples", *outputs])],
        [onnx.numpy_helper.from_array(array, name) for name, array in graph.constants.items()],
    )
    model = helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", OPERATORS)],
        ir_version=LAYOUT,
        producer_name="dbp",
        producer_version=VERSION,
    )
    helper.set_model_props(model, dict(properties))
    return model
