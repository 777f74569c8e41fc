"""One pass of training over a few examples, recorded: which nodes each layer made, and what they do and hold."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dbp.autodiff import Tensor, Value, graph_nodes
from dbp.insight.work import NOTHING, Memory, Work, work_of
from dbp.nn import Conv2d, Draw, Initial, Loss, MaxPool2d, Model, Passed, Scope, call_with
from dbp.text import shape_text
from dbp.types import Array

INNER = ("layers", "shortcut")  # settings that are layers, and have rows of their own
UNSEEN = (*INNER, "initializer", "recurrent_initializer")


@dataclass
class Place:
    """A layer, the inputs, the loss, or a part of a function of the user's own, with the nodes made there."""

    path: str
    name: str
    settings: str = ""
    depth: int = 0
    shape: tuple[int, ...] | None = None
    began: int = 0
    ended: int = 0
    parameters: int = 0
    kept: int = 0
    nodes: list[Tensor] = field(default_factory=list)
    work: Work = NOTHING


def record(model: Model, initial: Initial, inputs: Array, loss: Loss | None) -> list[Place]:
    """What a pass of training goes through, in its order.

    Args:
        model: called once.
        initial: its parameters.
        inputs: some examples.
        loss: follows the model, if given.
    """
    leaves = {name: Tensor(initial.stand_in(name)) for name in initial.shapes}
    call = call_with(leaves, initial.running, Draw(0, 0, 0))
    call.trace = []
    with np.errstate(divide="ignore", invalid="ignore"):  # only shapes matter
        end = outputs = model(Scope(call), inputs)
    places = _layers(call.trace)
    if loss is not None:
        began = Tensor(0.0).created
        shape = loss.places(initial.output_shape)
        zeros = np.zeros((len(inputs), *shape), int)
        end = loss(outputs, loss.prepare(zeros, initial.output_shape, inputs.dtype))
        places.append(Place("", "loss", loss.kind, 0, shape, began, Tensor(0.0).created))
    nodes = graph_nodes(end) if type(end) is Tensor else []
    _put(nodes, places, leaves)
    _tell_pooling_apart(places, call.trace)
    _count_parameters(initial.shapes, places)
    memory = Memory(inputs, *(leaf.value for leaf in leaves.values()))
    owners = {node.created: place for place in places for node in place.nodes}
    for node in nodes:
        if node.primitive is not None:
            place = owners[node.created]
            place.kept += memory.of(node)
            place.work = place.work.plus(work_of(node))
    return [Place("", "inputs", shape=inputs.shape[1:], kept=inputs.nbytes), *places]


def _layers(trace: Sequence[Passed]) -> list[Place]:
    """A place for each layer, those inside of others below them."""
    places = []
    for passed in trace:
        around = [p for p in trace if p.began < passed.began and passed.ended < p.ended]
        parent = around[-1].path if around else ""
        name = passed.path.removeprefix(f"{parent}/" if parent else "")
        settings, shape = settings_text(passed.layer), tuple(np.shape(passed.outputs)[1:])
        places.append(Place(passed.path, name, settings, len(around), shape, passed.began, passed.ended))
    return places


def settings_text(layer: Any) -> str:
    """The settings of a layer that it must be given, or that are not what they are by default."""
    if not dataclasses.is_dataclass(layer):
        return ""
    words = []
    for f in dataclasses.fields(layer):
        value = getattr(layer, f.name)
        if f.name in UNSEEN or value == f.default:
            continue
        if isinstance(value, bool):
            words.append(f.name if value else f"no {f.name}")
        elif f.name in ("activation", "function"):
            words.append(str(value))
        else:
            words.append(f"{f.name} {shape_text(value) if isinstance(value, tuple) else value}")
    return ", ".join(words)


def _put(nodes: Sequence[Tensor], places: list[Place], leaves: dict[str, Tensor]) -> None:
    """Give each node to the innermost place within which it was made; others by the paths of parameters they use."""
    own = {leaf.created: name.rpartition("/")[0] for name, leaf in leaves.items()}
    parts: dict[str, Place] = {}
    latest = ""
    known = list(places)
    for node in nodes:
        if node.primitive is None:
            continue
        around = [p for p in known if p.began < node.created < p.ended]
        if around:
            around[-1].nodes.append(node)
            continue
        latest = next((own[x.created] for x in node.inputs if type(x) is Tensor and x.created in own), latest)
        if latest not in parts:
            parts[latest] = Place(latest, latest or "(model)", began=node.created)
        parts[latest].nodes.append(node)
    for part in parts.values():
        part.shape = part.nodes[-1].shape[1:]
        names = (node.primitive.name for node in part.nodes if node.primitive)
        part.settings = ", ".join(dict.fromkeys(names))
    places += parts.values()
    places.sort(key=lambda place: place.began)


def _tell_pooling_apart(places: Sequence[Place], trace: Sequence[Passed]) -> None:
    """A convolution that pools along with its own work has the shape, and the node, that it had without."""
    by_start = {place.began: place for place in places}
    for passed, after in itertools.pairwise(trace):
        merged = isinstance(passed.layer, Conv2d) and isinstance(after.layer, MaxPool2d)
        if merged and passed.outputs is after.outputs:
            place, pool = by_start[passed.began], by_start[after.began]
            place.shape = _shape_before_pooling(passed.outputs)
            if place.nodes and place.nodes[-1].primitive and place.nodes[-1].primitive.name == "max_pool":
                pool.nodes.append(place.nodes.pop())


def _shape_before_pooling(y: Value) -> tuple[int, ...] | None:
    if type(y) is not Tensor or y.primitive is None:  # within layers that are recomputed
        return None
    if y.primitive.name == "max_pool":
        return tuple(np.shape(y.inputs[0])[1:])
    positions: tuple[int, int] = y.options["own"]["window"].positions(np.shape(y.inputs[0])[1:3])
    return *positions, y.shape[3]


def _count_parameters(shapes: Mapping[str, tuple[int, ...]], places: list[Place]) -> None:
    """Give each parameter to the first of the innermost places that its path lies in."""
    for name, shape in shapes.items():
        inside = [p for p in places if p.name != "loss" and (p.path == "" or name.startswith(f"{p.path}/"))]
        if not inside:
            inside = [Place("", "(model)")]
            places.insert(0, inside[0])
        deepest = max(inside, key=lambda place: len(place.path))
        deepest.parameters += math.prod(shape)
