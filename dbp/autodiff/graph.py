"""Walks over a recorded graph: backward for cotangents (reverse mode), forward for tangents.

Both walks are loops over the nodes in the order of their creation. With record=True the rules run on
tensors, so that the derivative is itself part of the graph and can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dbp.autodiff.tensor import Tensor, Value


def _reachable(outputs: Iterable[Tensor], leaves: Sequence[Tensor]) -> tuple[dict[int, Tensor], bool]:
    """The tensors that may lie between leaves and outputs, and whether the outputs depend on older ones.

    What depends on a leaf was made after it, so the walk need not go further back than the oldest leaf.
    """
    oldest = min((leaf.created for leaf in leaves), default=0)
    found: dict[int, Tensor] = {}
    outside, waiting = False, list(outputs)
    while waiting:
        node = waiting.pop()
        if node.created < oldest:
            outside = True
        elif node.created not in found:
            found[node.created] = node
            waiting += [x for x in node.inputs if type(x) is Tensor]
    return found, outside


def depends_on_others(output: Tensor, leaves: Sequence[Tensor]) -> bool:
    """Whether an output depends on tensors that were there before the leaves: those of an outer derivative."""
    sources = [x for leaf in leaves for x in leaf.inputs if type(x) is Tensor]
    return bool(sources) or _reachable([output], leaves)[1]


def _nodes_between(leaves: Sequence[Tensor], outputs: Iterable[Tensor]) -> list[Tensor]:
    """The tensors that depend on a leaf and on which an output depends, in the order of creation."""
    found, _ = _reachable(outputs, leaves)
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
        asked = [type(x) is Tensor and x.created in wanted for x in node.inputs]
        for x, part in zip(node.inputs, node.primitive.pull(g, y, inputs, node.options, asked), strict=True):
            if part is not None:
                before = cotangents.get(x.created)
                cotangents[x.created] = part if before is None else before + part
    return [cotangents.get(leaf.created) for leaf in leaves]


def pushforward(
    outputs: Sequence[Value], tangents: Sequence[tuple[Tensor, Value]], record: bool = False
) -> list[Value | None]:
    """Forward mode: the tangent of each output for given tangents of leaves; None where it has none."""
    known: dict[int, Value] = {leaf.created: t for leaf, t in tangents}
    ends = [output for output in outputs if type(output) is Tensor]
    for node in _nodes_between([leaf for leaf, _ in tangents], ends):
        if node.created in known:  # given by the caller
            continue
        assert node.primitive is not None
        y, inputs = _arguments(node, record)
        given = [known.get(x.created) if type(x) is Tensor else None for x in node.inputs]
        total = node.primitive.push(given, y, inputs, node.options)
        if total is not None:
            known[node.created] = total
    return [known.get(output.created) if type(output) is Tensor else None for output in outputs]
