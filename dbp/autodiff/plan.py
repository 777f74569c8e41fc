"""Plans: a recorded graph as two lists of calls on fixed memory, which compute it again for other numbers.

For small arrays, most of the time of a pass is spent on finding out what to do next: calling the model, recording the
graph and walking through it. A plan finds it out once. It is valid only for functions that do the same operations
whatever the numbers are: the caller sees to that. The plan itself refuses graphs with arrays of unknown origin,
because a later pass would need other ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, cast

import numpy as np

from dbp.autodiff.blocks.block import Block
from dbp.autodiff.graph import nodes_between
from dbp.autodiff.primitives.windows import Window
from dbp.autodiff.tensor import PRIMITIVES, PlannedNode, Primitive, Tensor, Value
from dbp.types import Array

MAX_BYTES = 1 << 21  # of a graph's values; beyond, the time that a plan saves is too small for the memory it keeps
FIXED = (bool, int, float, str, slice, np.generic, np.dtype, Window, type(None))  # values that do not change

Call = tuple[Callable[[Array, Sequence[Any]], object], Array, list[Any]]  # function, cotangent of a node, targets


class UnplannableError(Exception):
    """A graph that cannot be computed again by a plan; the message says why."""


class Unrecorded(NamedTuple):
    """Arrays that were computed from a value while the graph was recorded, but not by the graph.

    Args:
        created: the serial number of a tensor that was created then, by which a plan orders its steps.
        function: of the value; returns the arrays.
        x: the value.
        arrays: the arrays.
    """

    created: int
    function: Callable[[Array], Sequence[Array]]
    x: Value
    arrays: Sequence[Array]


class Plan:
    """The passes of a recorded graph, forward and backward, on fixed memory.

    Args:
        end: the tensor whose cotangent backward() takes.
        leaves: the tensors to differentiate by. Their arrays are read again in each pass.
        given: the arrays that a pass takes, contiguous. Other arrays must not depend on them, but by the graph.
        constants: further arrays in the graph, which stay as they are.
        unrecorded: further arrays in the graph, which a pass computes again.

    Raises:
        UnplannableError: the graph is too large, or contains an array that is none of these.
    """

    def __init__(
        self,
        end: Tensor,
        leaves: Sequence[Tensor],
        given: Sequence[Array],
        constants: Sequence[Array] = (),
        unrecorded: Sequence[Unrecorded] = (),
    ):
        nodes = nodes_between(leaves, [end])
        _check(end, leaves, nodes)
        self._memory = _Memory(leaves, given, constants)
        self._forward: list[Callable[[], object]] = []
        planned = []
        steps: list[Tensor | Unrecorded] = [*nodes, *unrecorded]
        for step in sorted(steps, key=attrgetter("created")):
            if isinstance(step, Unrecorded):
                self._forward.append(self._memory.plan_unrecorded(step))
            else:
                planned.append(self._memory.plan(step))
                self._forward.append(planned[-1].forward)
        self._cotangent = np.empty(end.shape, end.dtype)
        self._backward = _BackwardCalls(leaves, nodes, planned, end, self._cotangent)

    def value_of(self, x: Value) -> Array:
        """Return the array that holds the value of a tensor or an array of the recorded graph after forward()."""
        found: Array = self._memory.of(x)
        return found

    def forward(self, given: Sequence[Array]) -> None:
        """Compute all values.

        Args:
            given: the arrays that the pass takes, in the order, shapes and types of those of the recorded graph.
        """
        self._memory.take(given)
        for compute in self._forward:
            compute()

    def backward(self, cotangent: Array, into: Sequence[Array], again: bool = True) -> None:
        """Write the cotangents of the leaves, after forward().

        Args:
            cotangent: of the end.
            into: an array for each leaf. Calls are faster if it is the same list as in an earlier one.
            again: False if no later call has this list, so that the plan need not keep it.
        """
        self._cotangent[...] = cotangent
        for call, g, targets in self._backward.into(into):
            call(g, targets)
        if not again:
            self._backward.forget(into)


def is_small(nodes: Iterable[Tensor]) -> bool:
    """Return True if the values of these nodes are few enough for a plan."""
    return sum(node.value.nbytes for node in nodes) <= MAX_BYTES


def _check(end: Tensor, leaves: Sequence[Tensor], nodes: Sequence[Tensor]) -> None:
    """Raise UnplannableError unless a graph consists of few numbers of one type, computed by known primitives."""
    if not nodes or nodes[-1] is not end:
        raise UnplannableError("the end does not depend on any leaf")
    if not is_small(nodes):
        raise UnplannableError(f"the graph has more than {MAX_BYTES} bytes")
    if len({tensor.dtype for tensor in (*leaves, *nodes)}) > 1:
        raise UnplannableError("the graph has values of several types")
    if not all(node.value.flags.c_contiguous for node in nodes):  # products may have other bits for other strides
        raise UnplannableError("a value is a view that is not contiguous")
    for primitive in {cast(Primitive, node.primitive) for node in nodes}:
        if type(primitive) not in (Primitive, Block) or PRIMITIVES.get(primitive.name) is not primitive:
            raise UnplannableError(f"{primitive.name} may do something else in another pass")


class _Memory:
    """The fixed memory of all values of a graph.

    Args:
        leaves: of the graph.
        given: the arrays that a pass takes. They are copied to fixed memory where a function needs them there.
        constants: further arrays in the graph.
    """

    def __init__(self, leaves: Sequence[Tensor], given: Sequence[Array], constants: Sequence[Array]):
        self._given = [np.empty(array.shape, array.dtype) for array in given]
        self._known = [*zip(given, self._given, strict=True), *zip(constants, constants, strict=True)]
        if len({_address(array) for array in given}) < len(given):
            raise UnplannableError("two of the given arrays lie at the same address")
        self._of_tensor = {leaf.created: leaf.value for leaf in leaves}
        self._copied: set[int] = set()  # numbers of given arrays
        self._listed: list[tuple[int, list[Any], int]] = []  # the number of one, and the list and position to put it at

    def take(self, given: Sequence[Array]) -> None:
        """Take the arrays of a pass."""
        for number in self._copied:
            self._given[number][...] = given[number]
        for number, inputs, position in self._listed:
            inputs[position] = given[number]

    def plan(self, node: Tensor) -> PlannedNode:
        """Return the functions that compute a node, all of whose inputs have been planned."""
        assert node.primitive is not None
        options = node.options["own"] if isinstance(node.primitive, Block) else node.options
        output = self._of_tensor[node.created] = np.empty(node.shape, node.dtype)
        own = {name: self.of(value) for name, value in options.items()}
        found = [self._find(x) if isinstance(x, np.ndarray) else (None, self.of(x)) for x in node.inputs]
        inputs = [memory for _, memory in found]
        planned = node.primitive.plan(inputs, own, output)
        for position, (number, memory) in enumerate(found):
            if number is None:
                continue
            if planned.reads_list and memory.shape == self._given[number].shape:
                self._listed.append((number, inputs, position))
            else:
                self._copied.add(number)
        return planned

    def plan_unrecorded(self, step: Unrecorded) -> Callable[[], None]:
        """Return the function that computes arrays again outside of the graph."""
        function, x, arrays = step.function, self.of(step.x), [array.copy() for array in step.arrays]
        self._known += zip(step.arrays, arrays, strict=True)

        def compute() -> None:
            for array, found in zip(arrays, function(x), strict=True):
                array[...] = found

        return compute

    def of(self, x: Any) -> Any:
        """Return what stands for a value in each pass: its fixed memory, or the value itself if it does not change."""
        if type(x) is Tensor:
            if x.created not in self._of_tensor:
                raise UnplannableError("a tensor depends on no leaf")
            return self._of_tensor[x.created]
        if isinstance(x, np.ndarray):
            number, memory = self._find(x)
            if number is not None:
                self._copied.add(number)
            return memory
        if type(x) is tuple:
            return tuple(map(self.of, x))
        if isinstance(x, FIXED):
            return x
        raise UnplannableError(f"an option is a {type(x).__name__}")

    def _find(self, x: Array) -> tuple[int | None, Array]:
        """Return the number of the given array that x is, or is a reshaped view of, if any; and the memory for x."""
        for number, (known, memory) in enumerate(self._known):
            same = x.dtype == known.dtype and x.size == known.size and x.flags.c_contiguous and known.flags.c_contiguous
            if same and _address(x) == _address(known):
                return number if number < len(self._given) else None, memory.reshape(x.shape)
        raise UnplannableError(f"an array of shape {x.shape} is of unknown origin")


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


class _BackwardCalls:
    """The calls of the backward pass, in their order, for any arrays of the leaves' cotangents.

    Args:
        leaves: of the graph.
        nodes: of the graph, in the order of creation.
        planned: the functions of each node.
        end: the last node.
        cotangent: of the end.
    """

    def __init__(
        self,
        leaves: Sequence[Tensor],
        nodes: Sequence[Tensor],
        planned: Sequence[PlannedNode],
        end: Tensor,
        cotangent: Array,
    ):
        self._numbers = {leaf.created: number for number, leaf in enumerate(leaves)}
        self._uses = Counter(x.created for node in nodes for x in node.inputs if type(x) is Tensor)
        self._wanted = {*self._numbers, *(node.created for node in nodes)}
        self._cotangents = {end.created: cotangent}
        self._calls: list[Call] = []  # a target that is a number stands for the array of the leaf of that number
        self._written: set[int] = set()  # numbers of the leaves whose arrays are targets
        self._bound: dict[int, tuple[Sequence[Array], list[Call]]] = {}  # by the identity of the leaves' arrays
        for node, functions in zip(reversed(nodes), reversed(planned), strict=True):
            g = self._cotangents.pop(node.created, None)
            if g is not None:
                self._add(node, functions, g)
        for created, number in self._numbers.items():
            if created in self._cotangents:
                self._calls.append((_copy, self._cotangents[created], [number]))
            elif number not in self._written:
                self._calls.append((_fill_with_zeros, cotangent, [number]))

    def _add(self, node: Tensor, functions: PlannedNode, g: Array) -> None:
        """Add the call of a node, and additions to the cotangents of inputs that have other uses."""
        sums: list[Call] = []
        targets = [
            self._target(x, sums) if reached and type(x) is Tensor and x.created in self._wanted else None
            for x, reached in zip(node.inputs, functions.has_cotangent, strict=True)
        ]
        self._calls += [(functions.backward, g, targets), *sums]

    def _target(self, x: Tensor, sums: list[Call]) -> Any:
        """Return where to write a part of the cotangent of an input: its first part, or one that is added to it."""
        number = self._numbers.get(x.created)
        if number is not None and self._uses[x.created] == 1:
            self._written.add(number)
            return number
        part, before = np.empty(x.shape, x.dtype), self._cotangents.get(x.created)
        if before is None:
            self._cotangents[x.created] = part
        else:
            sums.append((_add_to, part, [before]))
        return part

    def into(self, arrays: Sequence[Array]) -> list[Call]:
        """Return the calls that write the cotangents of the leaves to these arrays."""
        found = self._bound.get(id(arrays))
        if found is None:
            calls = [
                (call, g, [arrays[target] if type(target) is int else target for target in targets])
                for call, g, targets in self._calls
            ]
            found = self._bound[id(arrays)] = arrays, calls
        return found[1]

    def forget(self, arrays: Sequence[Array]) -> None:
        """Forget the calls that write to these arrays."""
        del self._bound[id(arrays)]


def _add_to(part: Array, targets: Sequence[Array]) -> None:
    np.add(targets[0], part, targets[0])


def _copy(source: Array, targets: Sequence[Array]) -> None:
    targets[0][...] = source


def _fill_with_zeros(_cotangent: Array, targets: Sequence[Array]) -> None:
    targets[0].fill(0)
