"""Derivatives of what was recorded: walks over the graph, backward (vjp) and forward (jvp).

Both walks are loops over the nodes in the order of their creation. With record=True the rules run on
tensors, so that the derivative is itself part of the graph and can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from dbp.autodiff.tensor import Array, Tensor, Value, array_of


def _nodes_between(leaves: Iterable[Tensor], outputs: Iterable[Tensor]) -> list[Tensor]:
    """The tensors that depend on a leaf and on which an output depends, in the order of creation."""
    found: dict[int, Tensor] = {}
    waiting = list(outputs)
    while waiting:
        node = waiting.pop()
        if node.created not in found:
            found[node.created] = node
            waiting += [x for x in node.inputs if type(x) is Tensor]
    dependent = {leaf.created for leaf in leaves}
    nodes = []
    for created in sorted(found):
        node = found[created]
        if any(type(x) is Tensor and x.created in dependent for x in node.inputs):
            dependent.add(created)
            nodes.append(node)
    return nodes


def _arguments(node: Tensor, record: bool) -> tuple[Value, tuple[Value, ...]]:
    """The output and the inputs of a node, as its rules are to see them."""
    if record:
        return node, node.inputs
    return node.value, tuple(x.value if type(x) is Tensor else x for x in node.inputs)


def pullback(output: Tensor, cotangent: Value, leaves: Sequence[Tensor], record: bool = False) -> list[Value | None]:
    """Reverse mode: for each leaf the cotangent that `cotangent` of the output gives it.

    Args:
        output: the end of the recorded graph.
        cotangent: of the output's shape; dcost/doutput when a cost is differentiated.
        leaves: the tensors to differentiate by.
        record: whether the result is to be differentiated again (then it consists of tensors).

    Returns:
        One array (or tensor) of the leaf's shape per leaf, or None where the output does not depend on it.
    """
    nodes = _nodes_between(leaves, [output])
    keep = {leaf.created for leaf in leaves}
    wanted = keep | {node.created for node in nodes}
    cotangents: dict[int, Value] = {output.created: cotangent}
    for node in reversed(nodes):
        g = cotangents.get(node.created) if node.created in keep else cotangents.pop(node.created, None)
        if g is None:
            continue
        assert node.primitive is not None
        y, inputs = _arguments(node, record)
        for x, rule in zip(node.inputs, node.primitive.reverse, strict=True):
            if rule is None or type(x) is not Tensor or x.created not in wanted:
                continue
            part = rule(g, y, *inputs, **node.options)
            before = cotangents.get(x.created)
            cotangents[x.created] = part if before is None else before + part
    return [cotangents.get(leaf.created) for leaf in leaves]


def pushforward(output: Tensor, tangents: Sequence[tuple[Tensor, Value]], record: bool = False) -> Value | None:
    """Forward mode: the tangent of the output for given tangents of leaves; None where it has none."""
    known: dict[int, Value] = {leaf.created: t for leaf, t in tangents}
    for node in _nodes_between([leaf for leaf, _ in tangents], [output]):
        if node.created in known:  # given by the caller
            continue
        assert node.primitive is not None
        y, inputs = _arguments(node, record)
        total: Value | None = None
        for x, rule in zip(node.inputs, node.primitive.forward, strict=True):
            t = known.get(x.created) if type(x) is Tensor else None
            if rule is not None and t is not None:
                part = rule(t, y, *inputs, **node.options)
                total = part if total is None else total + part
        if total is not None:
            known[node.created] = total
    return known.get(output.created)


def value_and_gradient(function: Callable[..., Value], *points: Any) -> tuple[Any, tuple[Array, ...]]:
    """The value of a scalar function and its gradient by each of its arguments.

    Args:
        function: of arrays, written with primitives and operators; gives one number.
        points: the arguments, arrays of floats.

    Returns:
        The value, and one array per argument, of its shape.
    """
    leaves = [Tensor(np.asarray(p)) for p in points]
    output = function(*leaves)
    if not isinstance(output, Tensor):  # does not depend on the arguments
        return output, tuple(np.zeros_like(leaf.value) for leaf in leaves)
    if output.value.size != 1:
        raise ValueError(f"a gradient is that of one number, but the function gave shape {output.shape}")
    gradients = pullback(output, np.ones_like(output.value), leaves)
    return output.value, tuple(
        np.zeros_like(leaf.value) if g is None else array_of(g) for leaf, g in zip(leaves, gradients, strict=True)
    )
