"""An ONNX graph under construction: its nodes and weights, and values that know the order of their axes.

A layer asks for its inputs in the order of axes that it needs. A value that has this order already is not transposed,
so two transpositions that would undo each other are never added.
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
    """An input or output of nodes.

    Args:
        name: its name in the graph.
        shape: shape of one example in dbp's order of axes, channels last.
        axes: for each axis in the graph its number in dbp's order, where axis 0 counts the examples.
    """

    name: str
    shape: Shape
    axes: Axes

    @classmethod
    def plain(cls, name: str, shape: Shape) -> Value:
        """Return a value in dbp's order of axes."""
        return cls(name, shape, tuple(range(len(shape) + 1)))

    def graph_axis(self, axis: int) -> int:
        """Return the number in the graph of an axis in dbp's order."""
        return self.axes.index(axis % len(self.axes))


@dataclass
class Node:
    """An operator with the names of its inputs and outputs."""

    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]


@dataclass
class Graph:
    """Nodes in the order of execution, and the arrays that they use.

    Args:
        weights: weights of the model by name.
        dtype: type of all floating-point numbers.
    """

    weights: Mapping[str, Array]
    dtype: np.dtype[Any]
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    _used: Counter[str] = field(default_factory=Counter)
    _arranged: dict[tuple[str, Axes], str] = field(default_factory=dict)

    def node(self, path: str, op: str, inputs: Sequence[str], outputs: Sequence[bool], attributes: Any) -> list[str]:
        """Add a node; return the names of its outputs, which are empty for those that are not wanted."""
        names = []
        for wanted in outputs:
            name = f"{path}{op}"
            self._used[name] += wanted
            numbered = name if self._used[name] == 1 else f"{name}_{self._used[name]}"
            names.append(numbered if wanted else "")
        self.nodes.append(Node(op, list(inputs), names, dict(attributes)))
        return names

    def arranged(self, path: str, x: Value, axes: Axes) -> Value:
        """Return the value with its axes in this order; one transposition is shared by all layers that need it."""
        if x.axes == axes:
            return x
        if (x.name, axes) not in self._arranged:
            order = [x.axes.index(axis) for axis in axes]
            (self._arranged[x.name, axes],) = self.node(path, "Transpose", [x.name], [True], {"perm": order})
        return replace(x, name=self._arranged[x.name, axes], axes=axes)

    def rename(self, old: str, new: str) -> None:
        """Rename an output of a node."""
        for node in self.nodes:
            node.inputs = [new if name == old else name for name in node.inputs]
            node.outputs = [new if name == old else name for name in node.outputs]


@dataclass(frozen=True)
class OnnxScope:
    """The part of a graph that belongs to one layer: its weights and nodes have names that begin with the path."""

    graph: Graph
    path: str = ""

    def inside(self, name: str) -> OnnxScope:
        """Return the scope of an inner layer."""
        return OnnxScope(self.graph, f"{self.path}{name}/")

    def weight(self, name: str) -> Array:
        """Return a parameter or running moment of the layer, in dbp's layout."""
        return self.graph.weights[self.path + name]

    def constant(self, name: str, array: Any, dtype: Any = None) -> str:
        """Add an array to the graph, by default integers as int64, others in its type; return the array's name."""
        numbers = np.asarray(array)
        dtype = dtype or (np.dtype(np.int64) if numbers.dtype.kind in "iu" else self.graph.dtype)
        self.graph.constants[self.path + name] = np.asarray(numbers, dtype, order="C")
        return self.path + name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; return the output's name."""
        return self.graph.node(self.path, op, inputs, [True], attributes)[0]

    def node_of_many(self, op: str, inputs: Sequence[str], outputs: Sequence[bool], **attributes: Any) -> list[str]:
        """Add a node of which only some outputs are wanted; return their names."""
        return self.graph.node(self.path, op, inputs, outputs, attributes)

    def apply(self, op: str, x: Value, *more: str, **attributes: Any) -> Value:
        """Apply an operator that keeps shape and order of axes."""
        return replace(x, name=self.node(op, x.name, *more, **attributes))

    def plain(self, x: Value) -> Value:
        """Return the value in dbp's order: examples first, channels last."""
        return self.graph.arranged(self.path, x, tuple(range(len(x.axes))))

    def channels_first(self, x: Value) -> Value:
        """Return the value with its channels right after the examples, as ONNX needs them."""
        last = len(x.axes) - 1
        return self.graph.arranged(self.path, x, (0, last, *range(1, last)))

    def arranged(self, x: Value, axes: Axes) -> Value:
        """Return the value with its axes in this order."""
        return self.graph.arranged(self.path, x, axes)

    def reshaped(self, x: Value, shape: Shape, given: Shape | None = None) -> Value:
        """Reshape each example.

        Args:
            x: the value.
            shape: of an example afterwards.
            given: the same with -1 for a length that follows from the others, which leaves it free.
        """
        x = self.plain(x)
        if x.shape == shape:
            return x
        if len(shape) == 1:
            return Value.plain(self.node("Flatten", x.name, axis=1), shape)
        return Value.plain(
            self.node("Reshape", x.name, self.constant("shape", np.array([0, *(given or shape)]))), shape
        )
