"""A model with its weights as an ONNX model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dbp.data import Scaling
from dbp.errors import UserError
from dbp.exchange.onnx.graph import Graph, OnnxScope, Shape, Value
from dbp.exchange.onnx.layers import add
from dbp.library import library
from dbp.nn import Model, as_model, check_model_weights, initial_parameters
from dbp.types import Array
from dbp.version import VERSION

OPERATOR_SET, IR_VERSION = 21, 10  # versions of ONNX operators and of the file format, which go together
MAX_BYTES = 2**31 - 2**20  # of weights, as a message of protobuf ends at 2 GiB
UNCHANGED = Scaling()
INPUTS, OUTPUTS = "inputs", "outputs"


def onnx_model(
    model: Model | Any,
    weights: Mapping[str, Array],
    input_shape: Shape,
    scaling: Scaling = UNCHANGED,
    properties: Mapping[str, str] | None = None,
    of_targets: Scaling = UNCHANGED,
) -> Any:
    """Return an onnx.ModelProto that computes the outputs of the model in evaluation, for any number of examples.

    Args:
        model: a layer of dbp, or a list of layers.
        weights: parameters and running moments by name; their common type is that of the graph.
        input_shape: shape of one example, channels last.
        scaling: what the graph does to its inputs first.
        properties: metadata of the file besides the version of dbp.
        of_targets: what the targets went through in training, which the graph undoes for its outputs.

    Raises:
        UserError: a layer is the user's own, weights and model do not fit together, or onnx is not installed.
    """
    onnx = library("onnx", "ONNX")
    model, dtype = as_model(model), next(iter(weights.values())).dtype
    graph = Graph(_checked(model, weights, input_shape, dtype), dtype)
    top, x = OnnxScope(graph), Value.plain(INPUTS, input_shape)
    if scaling.center is not None:
        x = top.apply("Sub", x, top.constant("center_of_inputs", scaling.center))
    if scaling.factor is not None and not np.all(scaling.factor == 1.0):
        x = top.apply("Mul", x, top.constant("scale_of_inputs", scaling.factor))
    y = top.plain(add(top, model, x))
    if of_targets.factor is not None:
        y = top.apply("Div", y, top.constant("scale_of_targets", of_targets.factor))
    if of_targets.center is not None:
        y = top.apply("Add", y, top.constant("mean_of_targets", of_targets.center))
    graph.rename(y.name, OUTPUTS)
    _must_fit(graph)
    return _proto(onnx, graph, input_shape, y.shape, {"dbp_version": VERSION, **(properties or {})})


def _checked(model: Model, weights: Mapping[str, Array], input_shape: Shape, dtype: np.dtype[Any]) -> dict[str, Array]:
    """Return the weights after checking that they are those of the model for such inputs."""
    initial = initial_parameters(model, np.zeros((2, *input_shape), dtype), 0, dtype)
    check_model_weights(initial, weights, f"inputs of shape {input_shape}")
    return dict(weights)


def _must_fit(graph: Graph) -> None:
    total = sum(array.nbytes for array in graph.constants.values())
    if total > MAX_BYTES:
        raise UserError(
            f"ONNX files hold at most {MAX_BYTES:,} bytes of weights, but the model has {total:,}; export them as "
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
        opset_imports=[helper.make_opsetid("", OPERATOR_SET)],
        ir_version=IR_VERSION,
        producer_name="dbp",
        producer_version=VERSION,
    )
    helper.set_model_props(model, dict(properties))
    return model
