"""What a recorded graph does and holds, node by node: multiply-adds forward and backward, and memory.

Products of matrices and convolutions count their multiply-adds, all other primitives one for each element of
their output, and views nothing. Backward counts the same again for each input that has a derivative. A block
counts as its specification does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from dbp.autodiff import Block, Recomputed, Tensor, graph_nodes
from dbp.types import Array


class Work(NamedTuple):
    """Multiply-adds."""

    forward: int
    backward: int

    def plus(self, other: Work) -> Work:
        """Both together."""
        return Work(self.forward + other.forward, self.backward + other.backward)


NOTHING = Work(0, 0)


def _shape(node: Tensor, number: int) -> tuple[int, ...]:
    return tuple(np.shape(node.inputs[number]))


def _letters(node: Tensor) -> int:
    """The product of the lengths of all letters of an Einstein sum."""
    terms = node.options["rule"].replace(" ", "").partition("->")[0].split(",")
    lengths = {x: n for i, term in enumerate(terms) for x, n in zip(term, _shape(node, i), strict=True)}
    return math.prod(lengths.values())


# The weights of a convolution are (down, across, channels in / groups, channels out).
PRODUCTS: dict[str, Callable[[Tensor], int]] = {
    "matmul": lambda node: node.value.size * _shape(node, 0)[-1],
    "einsum": _letters,
    "convolve": lambda node: node.value.size * math.prod(_shape(node, 1)[:3]),
    "convolve_back": lambda node: math.prod(_shape(node, 0)) * math.prod(_shape(node, 1)[:3]),
    "convolve_weights": lambda node: math.prod(_shape(node, 1)) * math.prod(node.shape[:3]),
}


def work_of(node: Tensor) -> Work:
    """What a node does in the forward pass and in the backward pass."""
    primitive = node.primitive
    if primitive is None:
        return NOTHING
    if isinstance(primitive, Recomputed):
        output = primitive.inside(node.inputs, node.options)
        total = NOTHING
        for inner in graph_nodes(output) if type(output) is Tensor else []:
            total = total.plus(work_of(inner))
        again = 0 if isinstance(primitive, Block) else total.forward
        return total.plus(Work(0, again))
    forward = PRODUCTS[primitive.name](node) if primitive.name in PRODUCTS else _elements(node)
    return Work(forward, forward * sum(type(x) is Tensor for x in node.inputs))


def _elements(node: Tensor) -> int:
    """The elements that a node computes: none if it shows those of an input in another way."""
    own = owner(node.value)
    shown = any(own is owner(x.value if type(x) is Tensor else x) for x in node.inputs if hasattr(x, "shape"))
    return 0 if shown else node.value.size


# --- memory -----------------------------------------------------------------------------------------


def owner(array: Array) -> Array:
    """The array that holds the memory which this one shows."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def held_by(node: Tensor) -> Iterator[Array]:
    """The arrays that a node keeps for the backward pass: its value, plain inputs, and what its options hold."""
    yield node.value
    waiting: list[Any] = [*node.inputs, node.options]
    while waiting:
        thing = waiting.pop()
        if isinstance(thing, np.ndarray):
            yield thing
        elif isinstance(thing, dict):
            waiting += thing.values()
        elif isinstance(thing, (list, tuple)):
            waiting += thing


class Memory:
    """Counts every piece of memory once.

    Args:
        known: arrays that are counted elsewhere.
    """

    def __init__(self, *known: Array):
        self._seen = {id(owner(array)): owner(array) for array in known}

    def new(self, array: Array) -> int:
        """The bytes that an array holds, 0 if they are known already."""
        whole = owner(array)
        if id(whole) in self._seen:
            return 0
        self._seen[id(whole)] = whole
        return whole.nbytes

    def of(self, node: Tensor) -> int:
        """The bytes that a node holds and no one before it."""
        return sum(self.new(array) for array in held_by(node))
