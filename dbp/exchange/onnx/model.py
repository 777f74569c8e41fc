"""A model with its weights as an ONNX model."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dbp.data import Scaling
from dbp.errors import UserError
from dbp.exchange.onnx.graph import Graph, OnnxScope, Value
from dbp.exchange.onnx.layers import add
from dbp.library import library
from dbp.named_arrays import zeros_of
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
    of_targets: Scaling | Mapping[str, Scaling] = UNCHANGED,
) -> Any:
    """Return an onnx.ModelProto that computes the outputs of the model in evaluation, for any number of examples.

    The inputs and outputs of the graph have the names of those of the model, where it has several, else "inputs" and
    "outputs". An output that has the name of an input gets "_output" at its end.

    Args:
        model: a layer of dbp, or a list of layers.
        weights: parameters and running moments by name; their common type is that of the graph.
        input_shape: shape of one example, channels last; shapes by name for several inputs.
        scaling: what the graph does to its inputs first, likewise.
        properties: metadata of the file besides the version of dbp.
        of_targets: what the targets went through in training, which the graph undoes for its outputs; by the names of
            these for several.

    Raises:
        UserError: a layer is the user's own, weights and model do not fit together, or onnx is not installed.
    """
    onnx = library("onnx", "ONNX")
    model, dtype = as_model(model), next(iter(weights.values())).dtype
    graph = Graph(_checked(model, weights, input_shape, dtype), dtype)
    top = OnnxScope(graph)
    given = {name: Value.plain(name, shape) for name, shape in _by_name(input_shape, INPUTS).items()}
    scalings, x = _by_name(scaling, INPUTS), dict(given)
    for name, value in given.items():
        x[name] = _scaled(top, value, scalings.get(name, UNCHANGED), name)
    y = add(top, model, x if isinstance(input_shape, Mapping) else x[INPUTS])
    undone = _by_name(of_targets, OUTPUTS)
    outputs: dict[str, Value] = {}
    for output, value in _by_name(y, OUTPUTS).items():
        name = f"{output}_output" if output in given else output
        unscaled = _unscaled(top, top.plain(value), undone.get(output, UNCHANGED), output)
        outputs[name] = _of_its_own(graph, unscaled, {*given, *(other.name for other in outputs.values())})
    for name, value in outputs.items():
        graph.rename(value.name, name)
        outputs[name] = replace(value, name=name)
    _must_fit(graph)
    return _proto(onnx, graph, given.values(), outputs.values(), {"dbp_version": VERSION, **(properties or {})})


def _by_name(given: Any, only: str) -> dict[str, Any]:
    """Return what is of one input or output without a name, or of several by name, by name."""
    return dict(given) if isinstance(given, Mapping) else {only: given}


def _scaled(top: OnnxScope, x: Value, scaling: Scaling, name: str) -> Value:
    if scaling.center is not None:
        x = top.apply("Sub", x, top.constant(f"center_of_{name}", scaling.center))
    if scaling.factor is not None and not np.all(scaling.factor == 1.0):
        x = top.apply("Mul", x, top.constant(f"scale_of_{name}", scaling.factor))
    return x


def _unscaled(top: OnnxScope, y: Value, scaling: Scaling, name: str) -> Value:
    which = "targets" if name == OUTPUTS else name
    if scaling.factor is not None:
        y = top.apply("Div", y, top.constant(f"scale_of_{which}", scaling.factor))
    if scaling.center is not None:
        y = top.apply("Add", y, top.constant(f"mean_of_{which}", scaling.center))
    return y


def _of_its_own(graph: Graph, value: Value, taken: Collection[str]) -> Value:
    """Return a value that can be renamed: of a node of its own, unless the name is not yet taken."""
    if value.name not in taken:
        return value
    (copy,) = graph.node("", "Identity", [value.name], [True], {})
    return replace(value, name=copy)


def _checked(model: Model, weights: Mapping[str, Array], input_shape: Shapes, dtype: np.dtype[Any]) -> dict[str, Array]:
    """Return the weights after checking that they are those of the model for such inputs."""
    initial = initial_parameters(model, zeros_of(input_shape, 2, dtype), 0, dtype)
    check_model_weights(initial.shapes_of_weights, weights, f"inputs of shape {input_shape}")
    return dict(weights)


def _must_fit(graph: Graph) -> None:
    total = sum(array.nbytes for array in graph.constants.values())
    if total > MAX_BYTES:
        raise UserError(
            f"ONNX files hold at most {MAX_BYTES:,} bytes of weights, but the model has {total:,}; export them as "
            ".safetensors"
        )


def _proto(
    onnx: Any, graph: Graph, inputs: Iterable[Value], outputs: Iterable[Value], properties: Mapping[str, str]
) -> Any:
    helper = onnx.helper
    kind = helper.np_dtype_to_tensor_dtype(graph.dtype)
    nodes = [
        helper.make_node(n.op, n.inputs, n.outputs, name=next(filter(None, n.outputs)), **n.attributes)
        for n in graph.nodes
    ]
    made = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info(x.name, kind, ["examples", *x.shape]) for x in inputs],
        [helper.make_tensor_value_info(y.name, kind, ["examples", *y.shape]) for y in outputs],
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
