"""Passes over a recorded graph: backward for cotangents (reverse mode), forward for tangents (forward mode).

Both are loops over the nodes in the order of their creation. With record=True the rules run on tensors, so that the
derivative is itself part of the graph and can be differentiated again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

from dbp.autodiff.cotangents import Cotangents
from dbp.autodiff.tensor import OutputSlot, Tensor, Value
from dbp.types import Array


def _reachable(outputs: Iterable[Tensor], leaves: Sequence[Tensor]) -> tuple[dict[int, Tensor], bool]:
    """Return the tensors that outputs depend on, by serial number, and whether some are older than all leaves.

    A tensor that depends on a leaf is younger than it, so the walk ends at tensors older than the oldest leaf.
    """
    oldest = min((leaf.created for leaf in leaves), default=0)
    found: dict[int, Tensor] = {}
    reaches_older, waiting = False, list(outputs)
    while waiting:
        node = waiting.pop()
        created = node.created
        if created < oldest:
            reaches_older = True
        elif created not in found:
            found[created] = node
            waiting += [x for x in node.inputs if type(x) is Tensor]
    return found, reaches_older


def graph_nodes(*outputs: Value) -> list[Tensor]:
    """Return all tensors that outputs depend on, leaves and themselves included, in the order of creation."""
    found, _ = _reachable([output for output in outputs if type(output) is Tensor], [])
    return [found[created] for created in sorted(found)]


def depends_on_others(output: Tensor, leaves: Sequence[Tensor]) -> bool:
    """Return True if an output depends on tensors older than the leaves: those of an outer derivative."""
    sources = [x for leaf in leaves for x in leaf.inputs if type(x) is Tensor]
    return bool(sources) or _reachable([output], leaves)[1]


def nodes_between(leaves: Sequence[Tensor], outputs: Iterable[Tensor]) -> list[Tensor]:
    """Return the tensors that depend on a leaf and that an output depends on, in the order of creation."""
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
    """Return the output and the inputs of a node for its rules: tensors if the derivative is recorded, else arrays."""
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
    consume: bool = False,
) -> list[Value | None]:
    """Return for each leaf the product of the output's cotangent with its derivative by the leaf (reverse mode).

    Args:
        output: the end of the recorded graph.
        cotangent: of the output's shape; dcost/doutput when a cost is differentiated.
        leaves: the tensors to differentiate by.
        record: whether to record the derivative, so that it can be differentiated again; results are then tensors.
        into: an array per leaf to hold its result, zeros where the output does not depend on the leaf.
        on_ready: with `into`, called with (number of the leaf, i) when all elements of its array from i on are final.
            The last call for a leaf has i = 0; it may be repeated.
        consume: whether each node gives up its inputs, and what it has kept for this pass, as soon as they are no
            longer needed: their memory is free for the rest of the pass, and the graph cannot be passed over again.

    Returns:
        One array (or tensor) of the leaf's shape per leaf, or None where the output does not depend on it.
    """
    nodes = nodes_between(leaves, [output])
    keep = {leaf.created for leaf in leaves}
    wanted = keep | {node.created for node in nodes}
    cotangents = Cotangents(output, cotangent)
    slots = None if into is None else _LeafSlots(nodes, leaves, into, cotangents, on_ready)
    while nodes:
        node = nodes.pop()
        if node.created in cotangents:
            memory = None if node.created in keep else cotangents.memory_of(node.created)
            g = cotangents[node.created] if node.created in keep else cotangents.pop(node.created)
            _add_cotangents(node, g, memory, wanted, cotangents, record, slots)
            del g, memory
        if slots is not None:
            slots.after(node)
        if consume:
            node.inputs, node.options = (), {}
    if slots is not None:
        slots.finish()
    return [cotangents.get(leaf.created) for leaf in leaves]


def _add_cotangents(
    node: Tensor,
    g: Value,
    memory: Array | None,
    wanted: set[int],
    cotangents: Cotangents,
    record: bool,
    slots: _LeafSlots | None,
) -> None:
    """Add to the cotangents of the inputs of a node those that follow from g, the cotangent of its output.

    `memory` is g if the rule of the node may write to it.
    """
    primitive, inputs = node.primitive, node.inputs
    assert primitive is not None
    y, arguments = _arguments(node, record)
    requested = [type(x) is Tensor and x.created in wanted for x in inputs]
    options = node.options
    if slots is not None and primitive.takes_output_slots:
        options = options | {"slots": slots.of(inputs)}
    for now, is_last in [(requested, True)] if slots is None else slots.turns(node, requested):
        if is_last and memory is not None and primitive.takes_memory:
            options = options | {"memory": memory}
        cotangents.add(inputs, primitive.pull(g, y, arguments, options, now), primitive.new_cotangents)


class _LeafSlots:
    """The caller's arrays for the cotangents of leaves; each is filled as soon as its cotangent is complete.

    Args:
        nodes: the tensors between leaves and output.
        leaves: the tensors to differentiate by.
        into: the arrays.
        cotangents: those known so far, by the serial number of their tensor.
        on_ready: see pullback().
    """

    def __init__(
        self,
        nodes: Sequence[Tensor],
        leaves: Sequence[Tensor],
        into: Sequence[Array],
        cotangents: Cotangents,
        on_ready: Callable[[int, int], None] | None,
    ):
        self._cotangents, self._on_ready = cotangents, on_ready or (lambda number, start: None)
        self._is_awaited = on_ready is not None
        self._arrays = {leaf.created: (i, array) for i, (leaf, array) in enumerate(zip(leaves, into, strict=True))}
        self._uses = dict.fromkeys(self._arrays, 0)  # of each leaf, not yet done with
        for node in nodes:
            for x in node.inputs:
                if type(x) is Tensor and x.created in self._arrays:
                    self._uses[x.created] += 1
        self._slots = {
            created: OutputSlot(array, functools.partial(self._on_ready, number))
            for created, (number, array) in self._arrays.items()
            if self._uses[created] == 1
        }
        if self._is_awaited:
            for created in [created for created in self._arrays if self._uses[created] == 0]:
                self._fill(created)

    def of(self, inputs: Sequence[Value]) -> list[OutputSlot | None]:
        """Return the slot of each input that is a leaf without another use, so that its cotangent has a single part."""
        return [self._slots.get(x.created) if type(x) is Tensor else None for x in inputs]

    def turns(self, node: Tensor, requested: list[bool]) -> Iterator[tuple[list[bool], bool]]:
        """Yield which inputs' cotangents to compute, in turn, and whether these are the last.

        Those of leaves come first, as the caller waits for them.
        """
        assert node.primitive is not None
        leaves = [type(x) is Tensor and x.created in self._slots for x in node.inputs]
        first = [want and leaf for want, leaf in zip(requested, leaves, strict=True)]
        if self._is_awaited and node.primitive.separable and any(first) and first != requested:
            yield first, False
            self._settle([x for x, done in zip(node.inputs, first, strict=True) if done])
            yield [want and not leaf for want, leaf in zip(requested, leaves, strict=True)], True
        else:
            yield requested, True

    def after(self, node: Tensor) -> None:
        """Note that all cotangents of a node's inputs have been added."""
        if self._is_awaited:
            self._settle([x for x in node.inputs if type(x) is Tensor])

    def finish(self) -> None:
        """Fill the arrays of all leaves that are left, after the last node."""
        for created in list(self._arrays):
            self._fill(created)

    def _settle(self, inputs: Sequence[Tensor]) -> None:
        """Count one use of each input as done, and fill its array after the last; ignore inputs without open uses."""
        for x in inputs:
            if x.created in self._arrays and self._uses[x.created] > 0:
                self._uses[x.created] -= 1
                if self._uses[x.created] == 0:
                    self._fill(x.created)

    def _fill(self, created: int) -> None:
        (number, array), result = self._arrays.pop(created), self._cotangents.get(created)
        if result is None:
            array.fill(0)
        elif result is not array:
            array[...] = result
        self._on_ready(number, 0)


def pushforward(
    outputs: Sequence[Value], tangents: Sequence[tuple[Tensor, Value]], record: bool = False
) -> list[Value | None]:
    """Return the tangent of each output for given tangents of leaves (forward mode); None where it has none."""
    known: dict[int, Value] = {leaf.created: t for leaf, t in tangents}
    ends = [output for output in outputs if type(output) is Tensor]
    for node in nodes_between([leaf for leaf, _ in tangents], ends):
        given = [known.get(x.created) if type(x) is Tensor else None for x in node.inputs]
        if node.created in known or all(t is None for t in given):  # given by the caller, or there is none
            continue
        assert node.primitive is not None
        y, inputs = _arguments(node, record)
        total = node.primitive.push(given, y, inputs, node.options)
        if total is not None:
            known[node.created] = total
    return [known.get(output.created) if type(output) is Tensor else None for output in outputs]
