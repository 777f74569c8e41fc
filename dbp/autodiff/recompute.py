"""Activation checkpointing: the graph inside a function is not kept but recorded again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dbp.autodiff.graph import pullback, pushforward
from dbp.autodiff.pytree import tree_leaves, tree_like
from dbp.autodiff.tensor import Primitive, Tensor, Value, new_node
from dbp.autodiff.transforms import leaf_at


def recompute(function: Callable[..., Any]) -> Recomputed:
    """Return the function as one node of the graph, whose derivatives call it again (Chen et al. 2016).

    Args:
        function: returns one array. Every tensor that it uses must be among its arguments, which may be trees.
    """
    return Recomputed(function)


class Recomputed(Primitive):
    """A primitive composed of others, whose derivatives are found by recording the function again."""

    def __init__(self, function: Callable[..., Any]):
        self.name, self.value = f"recompute({getattr(function, '__name__', 'function')})", self._plain
        self._function = function

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Return the output; one node of the graph if a tensor is in the inputs, which may be trees, or options."""
        leaves = tree_leaves([inputs, options])
        trees = any(isinstance(x, (dict, list, tuple)) for x in inputs)
        if not trees and all(type(x) is not Tensor for x in tree_leaves(options)):
            return super().__call__(*inputs, **options)

        def flat(*leaves: Any) -> Any:
            given, named = tree_like([inputs, options], list(leaves))
            return self._function(*given, **named)

        flat.__name__ = getattr(self._function, "__name__", "function")
        return Primitive.__call__(Recomputed(flat), *leaves)

    def _plain(self, *inputs: Any, **options: Any) -> Any:
        output = self._function(*inputs, **options)
        if isinstance(output, (tuple, list, dict)) or output is None:
            raise TypeError(
                f"{self.name} must return one array, not a {type(output).__name__}; stack() makes one of several"
            )
        if type(output) is Tensor:
            raise TypeError(f"{self.name} uses tensors that are not among its arguments; pass them as arguments")
        return output

    def node(self, output: Value, inputs: tuple[Value, ...]) -> Tensor:
        """Return the node of a call whose output is already known."""
        return new_node(output, self, inputs, {}, {})

    def record_again(self, inputs: Sequence[Value], options: dict[str, Any]) -> Value:
        """Return the output, recorded anew from leaves for all tensors among the inputs, for counting its work."""
        leaves = [Tensor(x.value) if type(x) is Tensor else x for x in inputs]
        return self._function(*leaves, **options)

    def _record_from_leaves(
        self, inputs: Sequence[Value], chosen: Sequence[bool], options: dict[str, Any]
    ) -> tuple[list[Tensor | None], Tensor]:
        """Return leaves for the chosen inputs alone, and the output recorded anew from them, for its derivatives."""
        leaves = [leaf_at(x) if choose else None for x, choose in zip(inputs, chosen, strict=True)]
        given = [x if leaf is None else leaf for x, leaf in zip(inputs, leaves, strict=True)]
        return leaves, self._function(*given, **options)

    def pull(self, g: Value, y: Value, inputs: Sequence[Value], options: Any, wanted: Sequence[bool]) -> list[Value]:  # noqa: ARG002
        """Return the cotangents of the wanted inputs, None for the others."""
        leaves, output = self._record_from_leaves(inputs, wanted, options)
        record = any(type(x) is Tensor for x in (g, *inputs))
        found = iter(pullback(output, g, [leaf for leaf in leaves if leaf is not None], record))
        return [None if leaf is None else next(found) for leaf in leaves]

    def push(self, tangents: Sequence[Value | None], y: Value, inputs: Sequence[Value], options: Any) -> Value | None:  # noqa: ARG002
        """Return the output's tangent."""
        leaves, output = self._record_from_leaves(inputs, [t is not None for t in tangents], options)
        pairs = [(leaf, t) for leaf, t in zip(leaves, tangents, strict=True) if leaf is not None]
        return pushforward([output], pairs, any(type(x) is Tensor for x in (*tangents, *inputs)))[0]
