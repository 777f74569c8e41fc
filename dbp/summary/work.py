"""Count what a recorded graph computes, node by node: multiply-adds forward and backward.

A matrix product or a convolution counts its multiply-adds. Any other primitive counts one for each element of its
output, and a view counts nothing. The backward pass counts the same again for each input that has a derivative. A block
counts like its specification.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from typing import NamedTuple

import numpy as np

from dbp.autodiff import Block, Recomputed, Tensor, array_of, graph_nodes, owner


class Work(NamedTuple):
    """Numbers of multiply-adds of the forward pass and of the backward pass."""

    forward: int
    backward: int

    def plus(self, other: Work) -> Work:
        """Return the sum of both."""
        return Work(self.forward + other.forward, self.backward + other.backward)


NO_WORK = Work(0, 0)


def _shape(node: Tensor, number: int) -> tuple[int, ...]:
    return tuple(np.shape(node.inputs[number]))


def _einsum_work(node: Tensor) -> int:
    """Return the product of the lengths of all letters of an Einstein sum."""
    terms = node.options["rule"].replace(" ", "").partition("->")[0].split(",")
    lengths = {x: n for i, term in enumerate(terms) for x, n in zip(term, _shape(node, i), strict=True)}
    return math.prod(lengths.values())


# Multiply-adds of products. The weights of a convolution are (*size, channels in / groups, channels out).
PRODUCTS: dict[str, Callable[[Tensor], int]] = {
    "matmul": lambda node: node.value.size * _shape(node, 0)[-1],
    "einsum": _einsum_work,
    "convolve": lambda node: node.value.size * math.prod(_shape(node, 1)[:-1]),
    "convolve_transposed": lambda node: math.prod(_shape(node, 0)) * math.prod(_shape(node, 1)[:-1]),
    "convolve_weights": lambda node: math.prod(_shape(node, 1)) * math.prod(node.shape[:-1]),
}


def work_of(node: Tensor, wanted: Container[int] | None = None) -> Work:
    """Return the multiply-adds of a node in the forward pass and in the backward pass.

    Args:
        node: of a recorded graph.
        wanted: numbers of the tensors that have a derivative; by default all have.
    """
    if wanted is not None and node.primitive is not None:
        recorded = [x if type(x) is Tensor and x.created in wanted else array_of(x) for x in node.inputs]
        alone = Tensor(node.value, node.primitive, tuple(recorded), node.options)
        return Work(work_of(node).forward, work_of(alone).backward)
    primitive = node.primitive
    if primitive is None:
        return NO_WORK
    if isinstance(primitive, Recomputed):
        output = primitive.record_again(node.inputs, node.options)
        total = NO_WORK
        for inner in graph_nodes(output) if type(output) is Tensor else []:
            total = total.plus(work_of(inner))
        again = 0 if isinstance(primitive, Block) else total.forward
        return total.plus(Work(0, again))
    forward = PRODUCTS[primitive.name](node) if primitive.name in PRODUCTS else _elements(node)
    return Work(forward, forward * sum(type(x) is Tensor for x in node.inputs))


def _elements(node: Tensor) -> int:
    """Return the number of elements that a node computes, which is 0 for a view of one of its inputs."""
    memory = owner(node.value)
    arrays = (x.value if type(x) is Tensor else x for x in node.inputs if hasattr(x, "shape"))
    return 0 if any(memory is owner(array) for array in arrays) else node.value.size
