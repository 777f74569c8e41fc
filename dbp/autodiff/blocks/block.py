"""A block: a composition of primitives, its specification, beside a fused version of value and derivative."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from dbp.autodiff.recompute import Recomputed
from dbp.autodiff.tensor import PRIMITIVES, OutputSlot, PlannedNode, Tensor, Value, new_node, write_parts
from dbp.types import Array

Options = dict[str, Any]


class RecordedRules(NamedTuple):
    """Derivatives of a block composed of primitives, to be differentiated again, in place of its specification's.

    Args:
        pull: (g, output, inputs, wanted, **options) -> cotangents of the inputs, None where not wanted.
        push: (tangents, output, inputs, **options) -> tangent of the output. Both return None for options that they
            are not for.
    """

    pull: Callable[..., list[Value | None] | None]
    push: Callable[..., Value | None]


class Block(Recomputed):
    """A fused primitive: a specification, and the forward and backward pass of its fast version.

    Args:
        name: of the primitive.
        specification: (*inputs, **options) -> output, composed of primitives.
        forward: (*arrays, **options) -> output, and anything to keep for backward.
        backward: (g, output, kept, wanted, slots, *arrays, **options) -> cotangents of the inputs, None where not
            wanted. Where slots holds an OutputSlot for an input, the cotangent may be written there.
        tangent: (tangents, output, kept, *arrays, **options) -> tangent of the output; by default that of the
            specification.
        value_alone: (*arrays, **options) -> output, where nothing is kept; by default that of `forward`.
        planned: (arrays, options, output) -> a PlannedNode with less overhead than the passes above, as a plan runs for
            small arrays, with the same bits; or None where it has none.
        recorded: derivatives to be differentiated again; by default those of the specification.
        new_cotangents: whether `backward` returns arrays that nobody else has, so that others may write to them.
        takes_memory: whether `backward` takes another option, `memory`: g, if it may be written to, or None.
    """

    takes_output_slots = True

    def __init__(
        self,
        name: str,
        specification: Callable[..., Value],
        forward: Callable[..., tuple[Array, Any]],
        backward: Callable[..., Sequence[Value | None]],
        tangent: Callable[..., Value] | None = None,
        value_alone: Callable[..., Array] | None = None,
        planned: Callable[[Sequence[Any], Options, Array], PlannedNode | None] | None = None,
        recorded: RecordedRules | None = None,
        new_cotangents: bool = False,
        takes_memory: bool = False,
    ):
        super().__init__(specification)
        self.name, self.value, self._backward, self._tangent = name, forward, backward, tangent
        self._value_alone, self._planned, self._recorded = value_alone, planned, recorded
        self.new_cotangents, self.takes_memory = new_cotangents, takes_memory
        PRIMITIVES[name] = self

    def __call__(self, *inputs: Value, **options: Any) -> Any:
        """Return the output on plain arrays; a node of the graph if a tensor is among the inputs."""
        arrays, recording = [], False
        for x in inputs:
            if type(x) is Tensor:
                x, recording = x.value, True
            arrays.append(x)
        if self._value_alone is not None and not recording:
            return self._compute(arrays, options, self._value_alone)
        output, kept = self._compute(arrays, options)
        return new_node(output, self, inputs, {"kept": kept, "own": options}, options) if recording else output

    def record_again(self, inputs: Sequence[Value], options: Options) -> Value:
        """Return the output of the specification, recorded from new leaves in place of the tensors among the inputs."""
        return super().record_again(inputs, options["own"])

    def pull(
        self, g: Value, y: Value, inputs: Sequence[Value], options: Options, wanted: Sequence[bool]
    ) -> list[Value]:
        """Return the cotangents of the wanted inputs, None for the others."""
        own = options["own"]
        if type(g) is Tensor or any(type(x) is Tensor for x in inputs):
            found = None if self._recorded is None else self._recorded.pull(g, y, inputs, wanted, **own)
            return super().pull(g, y, inputs, own, wanted) if found is None else found
        slots = options.get("slots") or [None] * len(inputs)
        if self.takes_memory:
            own = own | {"memory": options.get("memory")}
        return list(self._backward(g, y, options["kept"], wanted, slots, *inputs, **own))

    def push(
        self, tangents: Sequence[Value | None], y: Value, inputs: Sequence[Value], options: Options
    ) -> Value | None:
        """Return the output's tangent."""
        if self._tangent is None or any(type(x) is Tensor for x in (*tangents, *inputs)):
            found = None if self._recorded is None else self._recorded.push(tangents, y, inputs, **options["own"])
            return super().push(tangents, y, inputs, options["own"]) if found is None else found
        return self._tangent(tangents, y, options["kept"], *inputs, **options["own"])

    def plan(self, inputs: Sequence[Any], options: Options, output: Array) -> PlannedNode:
        """Return the functions that compute this again for other numbers in the same arrays; see Primitive.plan()."""
        lean = None if self._planned is None else self._planned(inputs, options, output)
        if lean is not None:
            return lean
        computed: list[Any] = [None, None]  # output and what is kept for backward, between both passes

        def forward() -> None:
            computed[:] = self.value(*inputs, **options)
            output[...] = computed[0]

        def backward(g: Array, targets: Sequence[Array | None]) -> None:
            wanted = [target is not None for target in targets]
            slots = [None if target is None else OutputSlot(target) for target in targets]
            write_parts(self._backward(g, *computed, wanted, slots, *inputs, **options), targets)
            computed[:] = None, None

        return PlannedNode(forward, backward, [True] * len(inputs), reads_list=True)
