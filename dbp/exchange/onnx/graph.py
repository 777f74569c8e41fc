"""An ONNX graph under construction: its nodes and weights, and values that know in which order their axes lie.

A layer asks for its inputs in the order it needs. What is in that order already passes as it is, so of two
transpositions that would undo each other neither comes about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dbp.types import Array

Shape = tuple[int, ...]
Axes = tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """What flows between nodes.

    Args:
        name: in the graph.
        shape: of one example, in dbp's order of axes: channels last.
        axes: for each axis that the value has in the graph its number in dbp's order, where 0 counts the examples.
    """

    name: str
    shape: Shape
    axes: Axes

    @classmethod
    def plain(cls, name: str, shape: Shape) -> Value:
        """A value in dbp's order."""
        return cls(name, shape, tuple(range(len(shape) + 1)))

    def place_of(self, axis: int) -> int:
        """Where in the graph the axis of that number in dbp's order lies."""
        return self.axes.index(axis % len(self.axes))


@dataclass
class Node:
    """An operator with the names of what it takes and gives, which is named after it."""

    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]


@dataclass
class Graph:
    """Nodes in the order of their work, and the arrays that they take by name.

    Args:
        weights: of the model, by name.
        dtype: of the numbers.
    """

    weights: Mapping[str, Array]
    dtype: np.dtype[Any]
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    _used: Counter[str] = field(default_factory=Counter)
    _arranged: dict[tuple[str, Axes], str] = field(default_factory=dict)

    def node(self, path: str, op: str, inputs: Sequence[str], outputs: Sequence[bool], attributes: Any) -> list[str]:
        """Add a node; gives the names of its outputs, which are empty for those that are not wanted."""
        names = []
        for wanted in outputs:
            name = f"{path}{op}"
            self._used[name] += wanted
            numbered = name if self._used[name] == 1 else f"{name}_{self._used[name]}"
            names.append(numbered if wanted else "")
        self.nodes.append(Node(op, list(inputs), names, dict(attributes)))
        return names

    def arranged(self, path: str, x: Value, axes: Axes) -> Value:
        """The value with its axes in this order, for which one transposition serves all who ask."""
        if x.axes == axes:
            return x
        if (x.name, axes) not in self._arranged:
            order = [x.axes.index(axis) for axis in axes]
            (self._arranged[x.name, axes],) = self.node(path, "Transpose", [x.name], [True], {"perm": order})
        return replace(x, name=self._arranged[x.name, axes], axes=axes)

    def rename(self, old: str, new: str) -> None:
        """Give what a node gives another name."""
        for node in self.nodes:
            node.inputs = [new if name == old else name for name in node.inputs]
            node.outputs = [new if name == old else name for name in node.outputs]


@dataclass(frozen=True)
class Place:
    """A layer's place in the graph and in the tree of names, where its weights are found and its nodes go."""

    graph: Graph
    path: str = ""

    def inside(self, name: str) -> Place:
        """The place of a layer inside this one."""
        return Place(self.graph, f"{self.path}{name}/")

    def weight(self, name: str) -> Array:
        """The parameter or running moment of that name here, as dbp has it."""
        return self.graph.weights[self.path + name]

    def constant(self, name: str, array: Any) -> str:
        """Put an array into the graph, whole numbers as int64, others in the type of the run; gives its name."""
        numbers = np.asarray(array)
        dtype = np.dtype(np.int64) if numbers.dtype.kind in "iu" else self.graph.dtype
        self.graph.constants[self.path + name] = np.asarray(numbers, dtype, order="C")
        return self.path + name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; gives the output's name."""
        return self.graph.node(self.path, op, inputs, [True], attributes)[0]

    def node_of_many(self, op: str, inputs: Sequence[str], outputs: Sequence[bool], **attributes: Any) -> list[str]:
        """Add a node of which only some outputs are wanted."""
        return self.graph.node(self.path, op, inputs, outputs, attributes)

    def apply(self, op: str, x: Value, *more: str, **attributes: Any) -> Value:
        """What an operator that leaves shape and order as they are makes of a value."""
        return replace(x, name=self.node(op, x.name, *more, **attributes))

    def plain(self, x: Value) -> Value:
        """The value in dbp's order: examples first, channels last."""
        return self.graph.arranged(self.path, x, tuple(range(len(x.axes))))

    def channels_first(self, x: Value) -> Value:
        """The value with its channels right after the examples, as ONNX wants them."""
        last = len(x.axes) - 1
        return self.graph.arranged(self.path, x, (0, last, *range(1, last)))

    def arranged(self, x: Value, axes: Axes) -> Value:
        """The value with its axes in this order."""
        return self.graph.arranged(self.path, x, axes)

    def reshaped(self, x: Value, shape: Shape) -> Value:
        """The numbers of each example in another shape."""
        x = self.plain(x)
        if x.shape == shape:
            return x
        if len(shape) == 1:
            return Value.plain(self.node("Flatten", x.name, axis=1), shape)
        return Value.plain(self.node("Reshape", x.name, self.constant("shape", np.array([0, *shape]))), shape)
