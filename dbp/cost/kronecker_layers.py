"""The weights of a model whose Fisher matrix has a Kronecker form, and the two factors of each over some examples.

A weight matrix W that only takes part in sums z = a W + b has one: the block of the Fisher matrix that belongs to it is
about A x G, with A the mean of a a^T over examples and positions, and G the sum over positions of d d^T, averaged over
examples, d the derivative of the loss by z (Martens and Grosse 2015). A convolution is such a sum at each position of
its window (Grosse and Martens 2016). Such sums are found in the recorded graph of a call of the model, so a function
of the user's has them too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dbp.autodiff import PRIMITIVES, Tensor, Value, Window, array_of, graph_nodes
from dbp.nn import Call
from dbp.types import Array

WEIGHT, BIAS = 1, 2  # positions among the inputs of a product, and of a block with a bias
BLOCKS = ("dense_block", "convolution_block")
PATCHES = 1 << 22  # elements of the windows of a convolution that are copied at a time


class KroneckerLayer(NamedTuple):
    """A weight with a Kronecker form.

    Args:
        weight: the name of the parameter, whose last axis is that of the units.
        bias: the name of the bias that the same sums add; "" for none.
        inputs: the number of elements of a, with a last one that is always 1 if there is a bias.
        units: the number of elements of z.
        is_tied: whether other sums are z = a W^T + b, as in an autoencoder whose weights are tied. Then it has no bias.
    """

    weight: str
    bias: str
    inputs: int
    units: int
    is_tied: bool = False


class Sum(NamedTuple):
    """One use of a weight.

    Args:
        product: the node whose input WEIGHT the weight is.
        z: the node that is the sum, with its bias.
        is_transposed: whether it is a sum of the transposed weight.
    """

    product: Tensor
    z: Tensor
    is_transposed: bool = False


Uses = dict[KroneckerLayer, list[Sum]]


class _Graph:
    """The recorded nodes of a call, and which of them take what.

    Args:
        outputs: of the call.
        leaves: the parameters by name.
    """

    def __init__(self, outputs: Sequence[Tensor], leaves: Mapping[str, Tensor]):
        self.names = {leaf.created: name for name, leaf in leaves.items()}
        self._takers: dict[int, list[tuple[Tensor, int]]] = {}
        nodes = {node.created: node for output in outputs for node in graph_nodes(output)}
        for _, node in sorted(nodes.items()):
            for position, x in enumerate(node.inputs):
                if type(x) is Tensor:
                    self._takers.setdefault(x.created, []).append((node, position))

    def takers(self, x: Tensor) -> list[tuple[Tensor, int]]:
        """Return the nodes that take a tensor as an input, each with its position there."""
        return self._takers.get(x.created, [])

    def products(self, leaf: Tensor) -> list[Tensor]:
        """Return the products with a weight; none if anything else takes it, but products with its transpose."""
        takers = [(node, position) for node, position in self.takers(leaf) if not _is_transposed(node)]
        if len(takers) < len(self.takers(leaf)) and not self.products_of_transposed(leaf):
            return []
        return [node for node, _ in takers] if all(_is_product(*taker) for taker in takers) else []

    def products_of_transposed(self, leaf: Tensor) -> list[Tensor]:
        """Return the products with the transpose of a weight; none if anything else takes that."""
        transposes = [node for node, _ in self.takers(leaf) if _is_transposed(node)]
        takers = [taker for node in transposes for taker in self.takers(node)]
        return [node for node, _ in takers] if all(_is_product(*taker) for taker in takers) else []

    def sum_and_bias(self, product: Tensor) -> tuple[Sum, Tensor | None]:
        """Return the sum that a product is a part of, and the parameter that is its bias, if there is one."""
        if len(product.inputs) > BIAS:
            bias = product.inputs[BIAS]
            return Sum(product, product), bias if self._is_leaf(bias) else None
        takers = self.takers(product)
        if len(takers) == 1 and takers[0][0].primitive is PRIMITIVES["add"]:
            z, position = takers[0]
            bias = z.inputs[1 - position]
            if self._is_leaf(bias) and bias.shape == product.shape[-1:]:
                return Sum(product, z), bias
        return Sum(product, product), None

    def _is_leaf(self, x: Value) -> bool:
        return type(x) is Tensor and x.created in self.names


def kronecker_uses(outputs: Sequence[Value], leaves: Mapping[str, Tensor]) -> Uses:
    """Return the weights with a Kronecker form that outputs depend on, in the order of the leaves.

    Args:
        outputs: of a recorded call.
        leaves: the parameters by name.
    """
    graph, found = _Graph([output for output in outputs if type(output) is Tensor], leaves), Uses()
    for name, leaf in leaves.items():
        if not (nodes := graph.products(leaf)):
            continue
        tied = graph.products_of_transposed(leaf)
        sums, biases = zip(*map(graph.sum_and_bias, nodes), strict=True)
        bias = biases[0]
        is_common = all(one is bias for one in biases) and (bias is None or len(graph.takers(bias)) == len(sums))
        if tied or not is_common:
            bias, sums = None, tuple(Sum(node, node) for node in nodes)
        bias_name = "" if bias is None else graph.names[bias.created]
        rows = math.prod(leaf.shape[:-1]) + bool(bias_name)
        layer = KroneckerLayer(name, bias_name, rows, leaf.shape[-1], bool(tied))
        found[layer] = [*sums, *(Sum(node, node, True) for node in tied)]
    return found


def _is_product(node: Tensor, position: int) -> bool:
    """Return True if a node is a product with the weight at this position, whose derivative by the sum is its own."""
    assert node.primitive is not None
    if position != WEIGHT:
        return False
    if node.primitive.name in BLOCKS:
        own = node.options["own"]
        is_linear = own.get("activation", "linear") == "linear" and not own.get("relu_after")
        return is_linear and not own.get("pool") and own.get("groups", 1) == 1
    if node.primitive.name == "convolve":
        return bool(node.options.get("groups", 1) == 1)
    return node.primitive.name == "matmul" and np.ndim(node.inputs[0]) >= 2 and np.ndim(node.inputs[1]) == 2


def _is_transposed(node: Tensor) -> bool:
    """Return True if a node is the transpose of a matrix."""
    assert node.primitive is not None
    axes = node.options.get("axes")
    return node.primitive.name == "transpose" and node.ndim == 2 and (axes is None or tuple(axes) == (1, 0))


def masks_of(call: Call) -> dict[int, Array | None]:
    """Return which positions of the neurons of a recorded call hold data, by the serial number of their tensor."""
    return {
        z.created: mask
        for path, values in call.neurons.items()
        for z, mask in zip(values, call.neuron_masks[path], strict=True)
        if type(z) is Tensor
    }


def add_inputs(use: Sum, has_bias: bool, weights: Array | None, mask: Array | None, matrix: Array) -> float:
    """Add the sum of a a^T over the examples and positions of a sum to a matrix; return over how many it is.

    Args:
        use: the sum.
        has_bias: whether a has a last element that is always 1.
        weights: of the examples; None if all are 1.
        mask: which positions of the sum hold data; None if all do.
        matrix: (inputs, inputs).
    """
    counts, total = _counts(use.z, weights, mask), 0.0
    size, first = len(matrix) - has_bias, 0
    for rows in _rows(use.product, size):
        used = None if counts is None else counts[first : first + len(rows)]
        first += len(rows)
        scaled = rows if used is None else rows * np.sqrt(used)[:, None]
        matrix[:size, :size] += scaled.T @ scaled
        weight = float(len(rows)) if used is None else float(used.sum(dtype=np.float64))
        if has_bias:
            sums = rows.sum(axis=0) if used is None else used @ rows
            matrix[:size, size] += sums
            matrix[size, :size] += sums
            matrix[size, size] += weight
        total += weight
    return total


def _counts(z: Tensor, weights: Array | None, mask: Array | None) -> Array | None:
    """Return how often each row of a counts, (examples x positions,); None if all count once."""
    if weights is None and mask is None:
        return None
    counts = np.ones(z.shape[:-1], z.dtype)
    if weights is not None:
        each = weights.reshape(len(weights), -1).mean(axis=1)
        rows = np.repeat(each, len(z) // len(each)) if len(each) and len(z) % len(each) == 0 else np.ones(len(z))
        counts *= rows.reshape(-1, *(1,) * (counts.ndim - 1))
    if mask is not None:
        counts *= mask.reshape(mask.shape + (1,) * (counts.ndim - mask.ndim))
    return counts.reshape(-1)


def _rows(product: Tensor, size: int) -> Iterator[Array]:
    """Yield the rows of a, (examples x positions, size), as a product has them, in pieces of a few images."""
    assert product.primitive is not None
    x, options = array_of(product.inputs[0]), product.options.get("own", product.options)
    if "window" not in options:
        yield x.reshape(-1, size)
        return
    window: Window = options["window"]
    positions = product.shape[1:-1]
    images = max(1, PATCHES // max(1, math.prod(positions) * size))
    for start in range(0, len(x), images):
        some = window.padded(x[start : start + images])
        patches = np.empty((len(some), *positions, *window.size, x.shape[-1]), x.dtype)
        for tap, pixels in window.taps(some, positions):
            patches[(slice(None),) * (1 + len(positions)) + tap] = pixels
        yield patches.reshape(-1, size)
