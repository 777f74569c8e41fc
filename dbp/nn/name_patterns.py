"""Patterns of the names of parameters, such as "conv2d_*", of which a run takes or freezes those that match."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from dbp.errors import UserError


def is_match(patterns: Iterable[str], name: str) -> bool:
    """Return True if one of the patterns matches a name; * stands for any text, with slashes too."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def matching_names(setting: str, patterns: Sequence[str], names: Iterable[str]) -> list[str]:
    """Return the names that patterns match, in the order of the names.

    Args:
        setting: the name of the setting that holds the patterns.
        patterns: as for is_match().
        names: those that may be matched.

    Raises:
        UserError: a pattern matches none of them.
    """
    names = list(names)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = difflib.get_close_matches(pattern, names, n=1, cutoff=0.0)
            raise UserError(
                f"{setting}: the pattern {pattern!r} matches no parameter; the nearest is {near[0]!r}, and * stands "
                "for any text"
            )
    return [name for name in names if is_match(patterns, name)]
