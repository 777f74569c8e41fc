"""The names of parameters and running moments: those that an HDF5 file can hold beside each other."""

from __future__ import annotations

from collections.abc import Iterable

from dbp.errors import UserError


def check_name(path: str) -> None:
    """Raise UserError unless an HDF5 file can hold an array of this path, under this very name."""
    if reason := _reason(path):
        raise UserError(f"a checkpoint cannot hold the parameter {path!r}, as {reason}; give it another name")


def _reason(path: str) -> str:
    parts = path.split("/")
    if "" in parts:
        return "its name, or a part of it between slashes, is empty"
    if wrong := {".", ".."}.intersection(parts):
        return f"a part of its name is {min(wrong)!r}"
    if "\0" in path:
        return "its name contains a zero byte"
    try:
        path.encode()
    except UnicodeEncodeError:
        return "its name contains half of a surrogate pair"
    return ""


def check_names(parameters: Iterable[str], moments: Iterable[str]) -> None:
    """Raise UserError if two names cannot stand in one file: equal ones, or one that is the group of another.

    Args:
        parameters: paths of all parameters.
        moments: paths of the arrays of all running moments.
    """
    names, groups = set(parameters), {}
    for name in moments:
        if name in names:
            raise UserError(
                f"the parameter {name!r} has the name of running moments of its layer; give it another name"
            )
        names.add(name)
    for name in sorted(names):
        parts = name.split("/")
        groups.update(dict.fromkeys(("/".join(parts[:count]) for count in range(1, len(parts))), name))
    for name in sorted(names & groups.keys()):
        raise UserError(
            f"a checkpoint cannot hold both {name!r} and {groups[name]!r}, as one is the group of the other; rename one"
        )
