"""Activation checkpointing: what a function recorded inside is not kept but computed again when needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dbp.autodiff.graph import pullback, pushforward
from dbp.autodiff.pytree import leaves_of, like
from dbp.autodiff.tensor import Primitive, Tensor, Value, recorded
from dbp.autodiff.transforms import leaf_at


def recompute(function: Callable[..., Any]) -> Recomputed:
    """The function with one node in the graph in place of all that it does (Chen et al. 2016).

    Its derivatives call it again. All that is to be differentiated by must be among its arguments.
    """
    return Recomputed(function)


class Recomputed(Primitive):
    """A primitive made of others, whose derivatives are found by recording it anew."""

    def __init__(self, function: Callable[..., Any]):
        self.name, self.value = f"recompute({getattr(function, '__name__', 'function')})", self._plain
        self._function = function

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """The output; one node of the graph if a tensor is among the inputs, in trees of them, or among the options."""
        leaves = leaves_of([inputs, options])
        trees = any(isinstance(x, (dict, list, tuple)) for x in inputs)
        if not trees and all(type(x) is not Tensor for x in leaves_of(options)):
            return super().__call__(*inputs, **options)

        def flat(*leaves: Any) -> Any:
            given, named = like([inputs, options], list(leaves))
            return self._function(*given, **named)

        flat.__name__ = getattr(self._function, "__name__", "function")
        return Primitive.__call__(Recomputed(flat), *leaves)

    def _plain(self, *inputs: Any, **options: Any) -> Any:
        output = self._function(*inputs, **options)
        if isinstance(output, (tuple, list, dict)) or output is None:
            raise TypeError(
                f"{self.name} must give one array, not a {type(output).__name__}; stack() makes one of several"
            )
        if type(output) is Tensor:
            raise TypeError(f"{self.name} uses tensors that are not among its arguments; pass them as arguments")
        return output

    def node(self, output: Value, inputs: tuple[Value, ...]) -> Tensor:
        """The node of a call whose output is already known."""
        return recorded(output, self, inputs, {}, {})

    def inside(self, inputs: Sequence[Value], options: dict[str, Any]) -> Value:
        """What a node of these inputs does, recorded from leaves in place of its tensors."""
        leaves = [Tensor(x.value) if type(x) is Tensor else x for x in inputs]
        return self._function(*leaves, **options)

    def _again(
        self, inputs: Sequence[Value], chosen: Sequence[bool], options: dict[str, Any]
    ) -> tuple[list[Tensor | None], Tensor]:
        leaves = [leaf_at(x) if choose else None for x, choose in zip(inputs, chosen, strict=True)]
        given = [x if leaf is None else leaf for x, leaf in zip(inputs, leaves, strict=True)]
        return leaves, self._function(*given, **options)

    def pull(self, g: Value, y: Value, inputs: Sequence[Value], options: Any, wanted: Sequence[bool]) -> list[Value]:  # noqa: ARG002
        """The cotangents of the wanted inputs."""
        leaves, output = self._again(inputs, wanted, options)
        record = any(type(x) is Tensor for x in (g, *inputs))
        found = iter(pullback(output, g, [leaf for leaf in leaves if leaf is not None], record))
        return [None if leaf is None else next(found) for leaf in leaves]

    def push(self, tangents: Sequence[Value | None], y: Value, inputs: Sequence[Value], options: Any) -> Value | None:  # noqa: ARG002
        """The output's tangent."""
        leaves, output = self._again(inputs, [t is not None for t in tangents], options)
        pairs = [(leaf, t) for leaf, t in zip(leaves, tangents, strict=True) if leaf is not None]
        return pushforward([output], pairs, any(type(x) is Tensor for x in (*tangents, *inputs)))[0]
