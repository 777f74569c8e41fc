"""A model with its weights as an ONNX model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dbp.data import Scaling
from dbp.errors import UserError
from dbp.exchange.onnx.free_lengths import Built, Dimensions, FreeLengths
from dbp.exchange.onnx.graph import Graph, OnnxScope, Shape, Value
from dbp.exchange.onnx.layers import add
from dbp.library import library
from dbp.named_arrays import as_dict, zeros_of
from dbp.nn import INPUTS, Model, as_model, check_model_weights, initial_parameters
from dbp.types import Array, Shapes
from dbp.version import VERSION

OPERATOR_SET, IR_VERSION = 21, 10  # versions of ONNX operators and of the file format, which go together
MAX_BYTES = 2**31 - 2**20  # of weights, as a message of protobuf ends at 2 GiB
UNCHANGED = Scaling()
OUTPUTS = "outputs"


def onnx_model(
    model: Model | Any,
    weights: Mapping[str, Array],
    input_shape: Shapes,
    scaling: Scaling | Mapping[str, Scaling] = UNCHANGED,
    properties: Mapping[str, str] | None = None,
    target_scaling: Scaling | Mapping[str, Scaling] = UNCHANGED,
) -> Any:
    """Return an onnx.ModelProto that computes the outputs of the model in evaluation, for any number of examples.

    Where the model and its weights are right for inputs of other lengths too, these are free: "length" of sequences,
    "height" and "width" of images, and so on.

    The inputs and outputs of the graph have the names of those of the model, where it has several, else "inputs" and
    "outputs". An output that has the name of an input gets "_output" at its end.

    Args:
        model: a layer of dbp, or a list of layers.
        weights: parameters and running moments by name; their common type is that of the graph.
        input_shape: shape of one example, channels last; shapes by name for several inputs.
        scaling: what the graph does to its inputs first, likewise.
        properties: metadata of the file besides the version of dbp.
        target_scaling: of the targets in training, which the graph undoes for its outputs; by name for several.

    Raises:
        UserError: a layer is the user's own, weights and model do not fit together, or onnx is not installed.
    """
    onnx = library("onnx", "ONNX")
    model, dtype = as_model(model), next(iter(weights.values())).dtype
    needed = _shapes_of_weights(model, input_shape, dtype)
    check_model_weights(needed, weights, f"inputs of shape {input_shape}")
    shapes, has_names = as_dict(input_shape, INPUTS), isinstance(input_shape, Mapping)
    blank = {name: np.broadcast_to(np.zeros((), dtype), np.shape(array)) for name, array in weights.items()}

    def build(shapes: Mapping[str, Shape], weights: Mapping[str, Array] = blank) -> Built:
        given = {name: Value.plain(name, shape) for name, shape in shapes.items()}
        return _built(Graph(weights, dtype), model, given, has_names, scaling, target_scaling)

    def takes(shapes: Mapping[str, Shape]) -> bool:
        return _shapes_of_weights(model, shapes if has_names else shapes[INPUTS], dtype) == needed

    inputs, outputs = FreeLengths(shapes, build, takes).dimensions()
    graph = build(shapes, weights).graph
    _must_fit(graph)
    return _proto(onnx, graph, inputs, outputs, {"dbp_version": VERSION, **(properties or {})})


def _built(
    graph: Graph, model: Any, given: Mapping[str, Value], has_names: bool, scaling: Any, target_scaling: Any
) -> Built:
    """Return the graph, to which the model is added, with its inputs and outputs; arguments are those of onnx_model().

    Args:
        graph: an empty graph with the weights.
        model: the model.
        given: the inputs by name.
        has_names: whether the model takes its inputs by name.
        scaling: what the graph does to its inputs first.
        target_scaling: of the targets in training, which the graph undoes for its outputs.
    """
    top, scalings, x = OnnxScope(graph), as_dict(scaling, INPUTS), dict(given)
    for name, value in given.items():
        x[name] = _scaled(top, value, scalings.get(name, UNCHANGED), name)
    y = add(top, model, x if has_names else x[INPUTS])
    undone = as_dict(target_scaling, OUTPUTS)
    outputs: dict[str, Value] = {}
    for output, value in as_dict(y, OUTPUTS).items():
        name = f"{output}_output" if output in given else output
        unscaled = _unscaled(top, top.plain(value), undone.get(output, UNCHANGED), output)
        outputs[name] = _of_its_own(graph, unscaled, {*given, *(other.name for other in outputs.values())})
    for name, value in outputs.items():
        graph.rename(value.name, name)
        outputs[name] = replace(value, name=name)
    return Built(graph, dict(given), outputs)


def _scaled(top: OnnxScope, x: Value, scaling: Scaling, name: str) -> Value:
    if scaling.center is not None:
        x = top.apply("Sub", x, _constant_for(top, x, f"center_of_{name}", scaling.center))
    if scaling.factor is not None and not np.all(scaling.factor == 1.0):
        x = top.apply("Mul", x, _constant_for(top, x, f"scale_of_{name}", scaling.factor))
    return x


def _constant_for(top: OnnxScope, x: Value, name: str, array: Any) -> str:
    """Add an array that is combined with each example of x; ValueError if it is for examples of other lengths."""
    if np.broadcast_shapes(np.shape(array), x.shape) != x.shape:
        raise ValueError(f"{name} has shape {np.shape(array)}, which does not fit {x.shape}")
    return top.constant(name, array)


def _unscaled(top: OnnxScope, y: Value, scaling: Scaling, name: str) -> Value:
    which = "targets" if name == OUTPUTS else name
    if scaling.factor is not None:
        y = top.apply("Div", y, _constant_for(top, y, f"scale_of_{which}", scaling.factor))
    if scaling.center is not None:
        y = top.apply("Add", y, _constant_for(top, y, f"mean_of_{which}", scaling.center))
    return y


def _of_its_own(graph: Graph, value: Value, taken: Collection[str]) -> Value:
    """Return a value that can be renamed: of a node of its own, unless the name is not yet taken."""
    if value.name not in taken:
        return value
    (copy,) = graph.node("", "Identity", [value.name], [True], {})
    return replace(value, name=copy)


def _shapes_of_weights(model: Model, input_shape: Shapes, dtype: np.dtype[Any]) -> dict[str, Shape]:
    """Return the shapes of the weights that the model has for such inputs, by name; no example is computed."""
    return initial_parameters(model, zeros_of(input_shape, 0, dtype), 0, dtype).shapes_of_weights


def _must_fit(graph: Graph) -> None:
    total = sum(array.nbytes for array in graph.constants.values())
    if total > MAX_BYTES:
        raise UserError(
            f"ONNX files hold at most {MAX_BYTES:,} bytes of weights, but the model has {total:,}; export them as "
            ".safetensors"
        )


def _proto(onnx: Any, graph: Graph, inputs: Dimensions, outputs: Dimensions, properties: Mapping[str, str]) -> Any:
    helper = onnx.helper
    kind = helper.np_dtype_to_tensor_dtype(graph.dtype)
    nodes = [
        helper.make_node(n.op, n.inputs, n.outputs, name=next(filter(None, n.outputs)), **n.attributes)
        for n in graph.nodes
    ]
    made = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info(name, kind, lengths) for name, lengths in inputs.items()],
        [helper.make_tensor_value_info(name, kind, lengths) for name, lengths in outputs.items()],
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
