"""Trees: nested dictionaries, lists and tuples with arrays as leaves, such as a model's parameters by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def tree_leaves(tree: Any) -> list[Any]:
    """Return the leaves of a tree from left to right; dictionaries in their own order."""
    if isinstance(tree, dict):
        return [leaf for branch in tree.values() for leaf in tree_leaves(branch)]
    if isinstance(tree, (list, tuple)):
        return [leaf for branch in tree for leaf in tree_leaves(branch)]
    return [tree]


def matching_leaves(tree: Any, other: Any, other_name: str, tree_name: str) -> list[Any]:
    """Return the leaves of `other` in the order of `tree`; ValueError, with both names, if their forms differ."""
    if isinstance(tree, dict):
        if not isinstance(other, dict) or other.keys() != tree.keys():
            raise ValueError(
                f"{other_name} must be in the form of the {tree_name}: a dictionary of {', '.join(map(str, tree))}"
            )
        pairs = [(branch, other[key]) for key, branch in tree.items()]
        return [leaf for one, two in pairs for leaf in matching_leaves(one, two, other_name, tree_name)]
    if isinstance(tree, (list, tuple)):
        if not isinstance(other, (list, tuple)) or len(other) != len(tree):
            given = len(other) if isinstance(other, (list, tuple)) else type(other).__name__
            raise ValueError(f"{other_name} must be in the form of the {tree_name}: {len(tree)} of them, not {given}")
        pairs = list(zip(tree, other, strict=True))
        return [leaf for one, two in pairs for leaf in matching_leaves(one, two, other_name, tree_name)]
    return [other]


def tree_like(tree: Any, leaves: list[Any]) -> Any:
    """Return a tree of the same form with other leaves."""
    return _fill(tree, iter(leaves))


def _fill(tree: Any, leaves: Iterator[Any]) -> Any:
    if isinstance(tree, dict):
        return {name: _fill(branch, leaves) for name, branch in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_fill(branch, leaves) for branch in tree)
    return next(leaves)


def tree_map(function: Callable[[Any], Any], tree: Any) -> Any:
    """Return a tree of the same form with the function of each leaf."""
    return tree_like(tree, [function(leaf) for leaf in tree_leaves(tree)])
