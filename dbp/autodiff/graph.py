"""Walks over a recorded graph: backward for cotangents (reverse mode), forward for tangents.

Both walks are loops over the nodes in the order of their creation. With record=True the rules run on
tensors, so that the derivative is itself part of the graph and can be differentiated again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

from dbp.autodiff.tensor import OutputSlot, Tensor, Value
from dbp.types import Array


def _reachable(outputs: Iterable[Tensor], leaves: Sequence[Tensor]) -> tuple[dict[int, Tensor], bool]:
    """The tensors that may lie between leaves and outputs, and whether the outputs depend on older ones.

    What depends on a leaf was made after it, so the walk need not go further back than the oldest leaf.
    """
    oldest = min((leaf.created for leaf in leaves), default=0)
    found: dict[int, Tensor] = {}
    outside, waiting = False, list(outputs)
    while waiting:
        node = waiting.pop()
        created = node.created
        if created < oldest:
            outside = True
        elif created not in found:
            found[created] = node
            waiting += [x for x in node.inputs if type(x) is Tensor]
    return found, outside


def graph_nodes(output: Tensor) -> list[Tensor]:
    """All tensors that an output was made of, leaves and itself included, in the order of creation."""
    found, _ = _reachable([output], [])
    return [found[created] for created in sorted(found)]


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
        for x in node.inputs:
            if type(x) is Tensor and x.created in dependent:
                dependent.add(created)
                nodes.append(node)
                break
    return nodes


def _arguments(node: Tensor, record: bool) -> tuple[Value, Sequence[Value]]:
    """The output and the inputs of a node, as its rules are to see them."""
    if record:
        return node, node.inputs
    return node.value, [x.value if type(x) is Tensor else x for x in node.inputs]


def pullback(
    output: Tensor,
    cotangent: Value,
    leaves: Sequence[Tensor],
    record: bool = False,
    into: Sequence[Array] | None = None,
    on_ready: Callable[[int, int], None] | None = None,
) -> list[Value | None]:
    """Reverse mode: for each leaf the cotangent that `cotangent` of the output gives it.

    Args:
        output: the end of the recorded graph.
        cotangent: of the output's shape; dcost/doutput when a cost is differentiated.
        leaves: the tensors to differentiate by.
        record: whether the result is to be differentiated again (then it consists of tensors).
        into: an array for each leaf that is to hold its result, zeros where the output does not depend on it.
        on_ready: with `into`, is given the number of each leaf as soon as its array is complete from an element on, and
            that element; in the end it is 0, perhaps more than once.

    Returns:
        One array (or tensor) of the leaf's shape per leaf, or None where the output does not depend on it.
    """
    nodes = _nodes_between(leaves, [output])
    keep = {leaf.created for leaf in leaves}
    wanted = keep | {node.created for node in nodes}
    cotangents: dict[int, Value] = {output.created: cotangent}
    slots = None if into is None else _LeafSlots(nodes, leaves, into, cotangents, on_ready)
    for node in reversed(nodes):
        g = cotangents.get(node.created) if node.created in keep else cotangents.pop(node.created, None)
        if g is not None:
            primitive, inputs = node.primitive, node.inputs
            assert primitive is not None
            y, arguments = _arguments(node, record)
            asked = [type(x) is Tensor and x.created in wanted for x in inputs]
            options = node.options
            if slots is not None and primitive.takes_output_slots:
                options = options | {"slots": slots.of(inputs)}
            for now in [asked] if slots is None or on_ready is None else slots.turns(node, asked):
                parts = primitive.pull(g, y, arguments, options, now)
                for x, part in zip(inputs, parts, strict=True):
                    if part is not None:
                        before = cotangents.get(x.created)
                        cotangents[x.created] = part if before is None else before + part
        if slots is not None and on_ready is not None:
            slots.after(node)
    if slots is not None:
        slots.finish()
    return [cotangents.get(leaf.created) for leaf in leaves]


class _LeafSlots:
    """The arrays that are to hold the cotangents of leaves, filled as soon as nothing more is added to them.

    Args:
        nodes: between leaves and output.
        leaves: whose cotangents are wanted.
        into: the arrays.
        cotangents: as found so far, by the tensors' order of creation.
        on_ready: see pullback().
    """

    def __init__(
        self,
        nodes: Sequence[Tensor],
        leaves: Sequence[Tensor],
        into: Sequence[Array],
        cotangents: dict[int, Value],
        on_ready: Callable[[int, int], None] | None,
    ):
        self._cotangents, self._on_ready = cotangents, on_ready or (lambda number, start: None)
        self._slot = {leaf.created: (i, slot) for i, (leaf, slot) in enumerate(zip(leaves, into, strict=True))}
        self._uses = dict.fromkeys(self._slot, 0)  # of each leaf that are not done with
        for node in nodes:
            for x in node.inputs:
                if type(x) is Tensor and x.created in self._slot:
                    self._uses[x.created] += 1
        self._single = {
            created: OutputSlot(slot, functools.partial(self._on_ready, number))
            for created, (number, slot) in self._slot.items()
            if self._uses[created] == 1
        }
        if on_ready is not None:
            for created in [created for created in self._slot if self._uses[created] == 0]:
                self._fill(created)

    def of(self, inputs: Sequence[Value]) -> list[OutputSlot | None]:
        """Where the whole cotangent of an input may be written, as no other node uses it."""
        return [self._single.get(x.created) if type(x) is Tensor else None for x in inputs]

    def turns(self, node: Tensor, asked: list[bool]) -> Iterator[list[bool]]:
        """What is asked of a node in turn: at first the cotangents of leaves, as somebody waits for them."""
        assert node.primitive is not None
        leaves = [type(x) is Tensor and x.created in self._single for x in node.inputs]
        first = [want and leaf for want, leaf in zip(asked, leaves, strict=True)]
        if node.primitive.separable and any(first) and first != asked:
            yield first
            self._settle([x for x, done in zip(node.inputs, first, strict=True) if done])
            yield [want and not leaf for want, leaf in zip(asked, leaves, strict=True)]
        else:
            yield asked

    def after(self, node: Tensor) -> None:
        """A node has given its inputs all that it has to give."""
        self._settle([x for x in node.inputs if type(x) is Tensor])

    def finish(self) -> None:
        """All nodes have given what they have to give."""
        for created in list(self._slot):
            self._fill(created)

    def _settle(self, inputs: Sequence[Tensor]) -> None:
        """One use of these is done with; those of a single use may be done with twice."""
        for x in inputs:
            if x.created in self._slot and self._uses[x.created] > 0:
                self._uses[x.created] -= 1
                if self._uses[x.created] == 0:
                    self._fill(x.created)

    def _fill(self, created: int) -> None:
        (number, slot), result = self._slot.pop(created), self._cotangents.get(created)
        if result is None:
            slot.fill(0)
        elif result is not slot:
            slot[...] = result
        self._on_ready(number, 0)


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
