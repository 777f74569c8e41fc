"""Arrays in dictionaries, lists and tuples, such as a model's parameters by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def leaves_of(tree: Any) -> list[Any]:
    """What stands in a tree, from left to right; dictionaries in their own order."""
    if isinstance(tree, dict):
        return [leaf for branch in tree.values() for leaf in leaves_of(branch)]
    if isinstance(tree, (list, tuple)):
        return [leaf for branch in tree for leaf in leaves_of(branch)]
    return [tree]


def like(tree: Any, leaves: list[Any]) -> Any:
    """A tree of the same form with other leaves."""
    return _fill(tree, iter(leaves))


def _fill(tree: Any, leaves: Iterator[Any]) -> Any:
    if isinstance(tree, dict):
        return {name: _fill(branch, leaves) for name, branch in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_fill(branch, leaves) for branch in tree)
    return next(leaves)


def change(function: Callable[[Any], Any], tree: Any) -> Any:
    """A tree of the same form with the function of each leaf."""
    return like(tree, [function(leaf) for leaf in leaves_of(tree)])
