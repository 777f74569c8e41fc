"""Axes of inputs whose length a graph leaves free: other lengths give the same graph, with the same weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dbp.autodiff import ShapeError
from dbp.errors import UserError
from dbp.exchange.onnx.graph import Graph, Shape, Value

EXAMPLES = "examples"
STEPS = (1, 2, 3, 4, 8, 16, 32, 64, -1, -2, -4, -8)  # from a length to others, of which a model may not take all
MUST_FIT = 2  # of these steps, before a length counts as free
NAMES = {1: ("length",), 2: ("length", "channels"), 3: ("height", "width", "channels")}
NAMES[4] = ("depth", *NAMES[3])

Shapes = Mapping[str, Shape]
Dimensions = dict[str, list[str | int | None]]  # of each input or output: lengths, or names of those that are free
InputAxis = tuple[str, int]  # the name of an input, and the number of an axis of one of its examples


class Built(NamedTuple):
    """A graph with its inputs and outputs by name."""

    graph: Graph
    inputs: dict[str, Value]
    outputs: dict[str, Value]

    def is_same(self, other: Built) -> bool:
        """Return True if both graphs have the same nodes and constants."""
        mine, theirs = self.graph.constants, other.graph.constants
        if self.graph.nodes != other.graph.nodes or mine.keys() != theirs.keys():
            return False
        return all(np.array_equal(array, theirs[name]) for name, array in mine.items())


@dataclass(frozen=True)
class FreeLengths:
    """The search for free lengths.

    Args:
        shapes: shape of an example of each input.
        build: makes the graph for inputs of such shapes; ValueError, UserError or ShapeError if it cannot.
        takes: returns True if the model with these weights takes inputs of such shapes, False if it needs other
            weights; the same errors if it takes none.
    """

    shapes: Shapes
    build: Callable[[Shapes], Built]
    takes: Callable[[Shapes], bool]

    def dimensions(self) -> tuple[Dimensions, Dimensions]:
        """Return the dimensions of inputs and of outputs, the first of each being the number of examples."""
        base = self.build(self.shapes)
        inputs: Dimensions = {name: [EXAMPLES, *shape] for name, shape in self.shapes.items()}
        outputs: Dimensions = {name: [EXAMPLES, *value.shape] for name, value in base.outputs.items()}
        for group in self._candidates(inputs):
            others = self._at_other_lengths(base, group)
            if len(others) < MUST_FIT:
                continue
            for name, axis in group:
                inputs[name][axis + 1] = self._name(group[0])
            for output, value in base.outputs.items():
                for axis, length in enumerate(value.shape):
                    if any(other.outputs[output].shape[axis] != length for other in others):
                        is_new = outputs[output][axis + 1] == length
                        same = is_new and _is_as_long(group[0], (output, axis), [base, *others])
                        outputs[output][axis + 1] = self._name(group[0]) if same else None
        return inputs, outputs

    def _candidates(self, found: Dimensions) -> Iterator[list[InputAxis]]:
        """Yield each axis, then those of several inputs that are as long and not free one by one.

        Args:
            found: the dimensions, which the caller changes while this runs.
        """
        yield from ([(name, axis)] for name, shape in self.shapes.items() for axis in range(len(shape)))
        together: dict[int, list[InputAxis]] = {}
        for name, shape in self.shapes.items():
            for axis, length in enumerate(shape):
                if found[name][axis + 1] == length:
                    together.setdefault(length, []).append((name, axis))
        yield from (group for group in together.values() if len({name for name, _ in group}) > 1)

    def _at_other_lengths(self, base: Built, group: list[InputAxis]) -> list[Built]:
        """Return what is built where these axes have other lengths; nothing if any of it has another graph."""
        others: list[Built] = []
        for step in STEPS:
            shapes = {name: list(shape) for name, shape in self.shapes.items()}
            for name, axis in group:
                shapes[name][axis] += step
            changed = {name: tuple(shape) for name, shape in shapes.items()}
            if min(min(shape, default=1) for shape in changed.values()) < 1:
                continue
            try:
                other = self.build(changed)
                if not base.is_same(other) or not self.takes(changed):
                    return []
            except (UserError, ShapeError, ValueError):
                continue
            others.append(other)
        return others

    def _name(self, of_input: InputAxis) -> str:
        """Return the name of a free axis, with that of its input if there are several."""
        name, axis = of_input
        axes = len(self.shapes[name])
        word = NAMES[axes][axis] if axes in NAMES else f"axis_{axis + 1}"
        return word if len(self.shapes) == 1 else f"{name}_{word}"


def _is_as_long(of_input: InputAxis, of_output: InputAxis, built: list[Built]) -> bool:
    """Return True if an axis of an output is always as long as one of an input."""
    (name, axis), (output, other) = of_input, of_output
    return all(one.inputs[name].shape[axis] == one.outputs[output].shape[other] for one in built)
