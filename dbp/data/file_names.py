"""Names of data files: of a group within a file, of many files by a pattern, and of data that comes with dbp."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from dbp.errors import UserError, unknown

PACKAGED = "dbp:"
GROUP = ":/"  # between a file and a group in it, as in all.h5:/train
MAX_FILES = 100_000  # of a data set; a pattern that means more is taken for a mistake


def packaged_names() -> list[str]:
    """Return the names of the data sets that come with dbp."""
    return [PACKAGED + path.stem for path in Path(__file__).parent.glob("*.h5")]


def data_path(name: str) -> Path:
    """Return the file of a data set.

    Args:
        name: a path, with a group behind it or without; or the name of a data set that comes with dbp, such as
            "dbp:digits-train".
    """
    if not name.startswith(PACKAGED):
        return Path(split_group(name)[0])
    if name not in packaged_names():
        raise unknown("packaged data set", name, packaged_names())
    return Path(__file__).parent / (name.removeprefix(PACKAGED) + ".h5")


def split_group(name: str) -> tuple[str, str]:
    """Return the file and the group of a name such as all.h5:/train; the group is "" for a file alone, and for :/."""
    file, mark, group = name.rpartition(GROUP)
    return (file, f"/{group.strip('/')}".rstrip("/")) if mark and file else (name, "")


def with_path(name: str, change: Callable[[str], str]) -> str:
    """Return the name of a data file with another path to it; one that comes with dbp has none."""
    if name.startswith(PACKAGED):
        return name
    file, group = split_group(name)
    return change(file) + (f":{group}" if group else "")


def expand(names: Iterable[str]) -> list[str]:
    """Return the names of single files: those that a pattern such as part-*.h5 means, in the order of their names.

    Raises:
        UserError: there is none, there are too many, or the same is named twice.
    """
    found: list[str] = []
    for name in names:
        file, _ = split_group(name)
        if name.startswith(PACKAGED) or not glob.has_magic(file) or Path(file).exists():
            found.append(name)
            continue
        matches = _matches(Path(file))
        if not matches:
            raise UserError(f"data files {file}: there is none (looked for {Path(file).absolute()})")
        found += [match + name.removeprefix(file) for match in matches]
    if not found:
        raise UserError("a list of data files must have at least one, but is empty")
    if len(found) > MAX_FILES:
        raise UserError(f"a data set may have at most {MAX_FILES:,} files, but has {len(found):,}; join some of them")
    _check_once(found)
    return found


def location_of(name: str) -> tuple[str, str]:
    """Return the file and the group that a name leads to, the same for all names of them."""
    return os.path.realpath(data_path(name)), "" if name.startswith(PACKAGED) else split_group(name)[1]


def _check_once(names: Iterable[str]) -> None:
    """Raise UserError if two names lead to the same file and group, whose examples would count twice."""
    seen: dict[tuple[str, str], str] = {}
    for name in names:
        location = location_of(name)
        if location in seen:
            also = "" if seen[location] == name else f", also as {seen[location]}"
            raise UserError(
                f"data file {name}: is named twice{also}, so that its examples would count twice; name it once"
            )
        seen[location] = name


def _matches(pattern: Path) -> list[str]:
    """Return the names that a pattern means, in order, but for hidden ones, which programs that write them use."""
    start = Path(pattern.anchor or ".")
    found = start.glob(str(pattern.relative_to(pattern.anchor)))
    return sorted(str(path) for path in found if not path.name.startswith("."))
