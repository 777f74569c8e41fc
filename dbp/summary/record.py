"""Record one training pass over a few examples: the graph nodes of each layer, their work and their memory."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dbp.autodiff import MemoryCounter, Tensor, Value, graph_nodes
from dbp.named_arrays import all_of, as_dict, first_of, row_count
from dbp.nn import (
    INPUTS,
    Conv2d,
    InitialParameters,
    LayerTrace,
    Loss,
    MaxPool2d,
    Model,
    RandomKey,
    Scope,
    call_with,
    losses_by_target,
)
from dbp.summary.work import NO_WORK, Work, work_of
from dbp.text import shape_text
from dbp.types import Arrays

INNER_LAYERS = ("layers", "shortcut")  # settings that are layers, and have rows of their own
HIDDEN_SETTINGS = (*INNER_LAYERS, "initializer", "recurrent_initializer")


@dataclass
class RecordedRow:
    """A layer, the inputs, the loss, or a part of a user's function, with the nodes that it made.

    Args:
        path: path of its parameters.
        name: its name within the layer around it.
        settings: what it takes, if that is not the layer before, and its settings, as text.
        depth: number of layers around it.
        shape: shape of an example's outputs; None if unknown.
        began: number of the last node created before it.
        ended: number of the first node created after it.
        parameters: number of its parameters.
        frozen: how many of them are not trained.
        kept: bytes that its nodes keep for the backward pass.
        nodes: the nodes.
        work: multiply-adds of its nodes.
        role: what it is: "layer", or "input" or "loss".
    """

    path: str
    name: str
    settings: str = ""
    depth: int = 0
    shape: tuple[int, ...] | None = None
    began: int = 0
    ended: int = 0
    parameters: int = 0
    frozen: int = 0
    kept: int = 0
    nodes: list[Tensor] = field(default_factory=list)
    work: Work = NO_WORK
    role: str = "layer"


def record(
    model: Model, initial: InitialParameters, inputs: Arrays, loss: Loss | None, frozen: Collection[str] = ()
) -> list[RecordedRow]:
    """Return the rows of a training pass, in the order of the forward pass.

    Args:
        model: the model, which is called once.
        initial: shapes of its parameters.
        inputs: some examples, an array or arrays by name.
        loss: the loss after the model; None for none.
        frozen: names of the parameters that are not trained.
    """
    leaves = {name: Tensor(initial.stand_in(name)) for name in initial.shapes}
    call = call_with(leaves, initial.running, RandomKey(0, 0, 0))
    call.trace = []
    with np.errstate(divide="ignore", invalid="ignore"):  # only shapes matter
        outputs = model(Scope(call), inputs)
    rows, ends = _layer_rows(call.trace), all_of(outputs)
    for name, part in ({} if loss is None else losses_by_target(loss)).items():
        row, losses = _loss_row(part, initial, outputs, inputs, name)
        rows.append(row)
        ends.append(losses)
    nodes = graph_nodes(*ends)
    _assign_nodes(nodes, rows, leaves)
    _separate_pooling(rows, call.trace)
    _count_parameters(initial.shapes, rows, frozen)
    memory = MemoryCounter(*all_of(inputs), *(leaf.value for leaf in leaves.values()))
    owners = {node.created: row for row in rows for node in row.nodes}
    wanted = {leaf.created for name, leaf in leaves.items() if name not in frozen}
    for node in nodes:
        if node.primitive is not None:
            row = owners[node.created]
            if frozen:
                row.kept += _bytes_for_backward(node, wanted, memory)
                row.work = row.work.plus(work_of(node, wanted))
            else:
                row.kept += memory.node_bytes(node)
                row.work = row.work.plus(work_of(node))
    given = as_dict(inputs, INPUTS)
    return [*(RecordedRow("", n, shape=x.shape[1:], kept=x.nbytes, role="input") for n, x in given.items()), *rows]


def _bytes_for_backward(node: Tensor, wanted: set[int], memory: MemoryCounter) -> int:
    """Return the bytes that a node keeps if some parameters are frozen; add it to `wanted` if it has a derivative.

    What depends on frozen parameters alone is kept only where a node with a derivative takes it.
    """
    inputs = [x for x in node.inputs if type(x) is Tensor]
    if wanted.isdisjoint(x.created for x in inputs):
        return 0
    wanted.add(node.created)
    return memory.node_bytes(node) + sum(memory.new_bytes(x.value) for x in inputs)


def _loss_row(
    loss: Loss, initial: InitialParameters, outputs: Any, inputs: Arrays, name: str
) -> tuple[RecordedRow, Value]:
    """Return the row of the loss of an output, and the losses.

    Args:
        loss: the loss.
        initial: shapes of the outputs.
        outputs: of the model.
        inputs: of the model.
        name: of the output; "" for the only one.
    """
    began = Tensor(0.0).created
    output = outputs[name] if isinstance(outputs, Mapping) else outputs
    output_shape = initial.output_shape[name] if isinstance(outputs, Mapping) else initial.output_shape
    shape = loss.loss_shape(output_shape)
    zeros = np.zeros((row_count(inputs), *shape), int)
    losses = loss(output, loss.prepare(zeros, output_shape, first_of(inputs).dtype))
    title = f"loss {name}".rstrip()
    return RecordedRow("", title, loss.kind, 0, shape, began, Tensor(0.0).created, role="loss"), losses


def _layer_rows(trace: Sequence[LayerTrace]) -> list[RecordedRow]:
    """Return a row for each layer; layers inside another follow it."""
    rows = []
    for passed in trace:
        around = [p for p in trace if p.began < passed.began and passed.ended < p.ended]
        parent = around[-1].path if around else ""
        own = passed.path.removeprefix(f"{parent}/" if parent else "")
        *outside, last = own.split("/")
        name = "/".join([*outside, passed.name or last])
        shares = f"shares {last}" if passed.name not in ("", last) else ""
        takes = f"from {', '.join(passed.takes)}" if passed.takes else ""
        settings = "; ".join(filter(None, [takes, shares or settings_text(passed.layer)]))
        shape = tuple(np.shape(passed.outputs)[1:])
        rows.append(RecordedRow(passed.path, name, settings, len(around), shape, passed.began, passed.ended))
    return rows


def settings_text(layer: Any) -> str:
    """Return the settings of a layer that differ from their defaults or have none."""
    if not dataclasses.is_dataclass(layer):
        return ""
    words = []
    for f in dataclasses.fields(layer):
        value = getattr(layer, f.name)
        if value == f.default or (f.name in HIDDEN_SETTINGS and not isinstance(value, int)):
            continue
        if isinstance(value, bool):
            words.append(f.name if value else f"no {f.name}")
        elif f.name in ("activation", "function"):
            words.append(str(value))
        else:
            words.append(f"{f.name} {shape_text(value) if isinstance(value, tuple) else value}")
    return ", ".join(words)


def _assign_nodes(nodes: Sequence[Tensor], rows: list[RecordedRow], leaves: dict[str, Tensor]) -> None:
    """Give each node to the innermost layer that made it.

    A node outside of all layers, as a user's function makes it, goes to a row named after the path of the parameter
    that it uses, or that the node before it used.
    """
    paths = {leaf.created: name.rpartition("/")[0] for name, leaf in leaves.items()}
    parts: dict[str, RecordedRow] = {}
    latest = ""
    layers = list(rows)
    for node in nodes:
        if node.primitive is None:
            continue
        around = [p for p in layers if p.began < node.created < p.ended]
        if around:
            around[-1].nodes.append(node)
            continue
        latest = next((paths[x.created] for x in node.inputs if type(x) is Tensor and x.created in paths), latest)
        if latest not in parts:
            parts[latest] = RecordedRow(latest, latest or "(model)", began=node.created)
        parts[latest].nodes.append(node)
    for part in parts.values():
        part.shape = part.nodes[-1].shape[1:]
        names = (node.primitive.name for node in part.nodes if node.primitive)
        part.settings = ", ".join(dict.fromkeys(names))
    rows += parts.values()
    rows.sort(key=lambda row: row.began)


def _separate_pooling(rows: Sequence[RecordedRow], trace: Sequence[LayerTrace]) -> None:
    """Give a convolution that was fused with the pooling after it the shape and the nodes of the convolution alone."""
    by_start = {row.began: row for row in rows}
    for passed, after in itertools.pairwise(trace):
        pooled = isinstance(passed.layer, Conv2d) and isinstance(after.layer, MaxPool2d)
        if pooled and passed.outputs is after.outputs:
            convolution, pooling = by_start[passed.began], by_start[after.began]
            convolution.shape = _shape_before_pooling(passed.outputs)
            last = convolution.nodes[-1].primitive if convolution.nodes else None
            if last is not None and last.name == "max_pool":
                pooling.nodes.append(convolution.nodes.pop())


def _shape_before_pooling(y: Value) -> tuple[int, ...] | None:
    if type(y) is not Tensor or y.primitive is None:  # inside a layer that recomputes
        return None
    if y.primitive.name == "max_pool":
        return tuple(np.shape(y.inputs[0])[1:])
    positions: tuple[int, int] = y.options["own"]["window"].positions(np.shape(y.inputs[0])[1:3])
    return *positions, y.shape[3]


def _count_parameters(shapes: Mapping[str, tuple[int, ...]], rows: list[RecordedRow], frozen: Collection[str]) -> None:
    """Count each parameter in the row whose path is the longest that the parameter's path begins with."""
    for name, shape in shapes.items():
        layers = [row for row in rows if row.role == "layer"]
        around = [row for row in layers if row.path == "" or name.startswith(f"{row.path}/")]
        if not around:
            around = [RecordedRow("", "(model)")]
            rows.insert(0, around[0])
        deepest = max(around, key=lambda row: len(row.path))
        deepest.parameters += math.prod(shape)
        deepest.frozen += math.prod(shape) * (name in frozen)
