"""The layouts of the data files that this process has looked into last, so that it opens them again in less time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from dbp.data.columns import Column
from dbp.data.file_names import data_path
from dbp.data.joined import JoinedLayout
from dbp.data.mapped import FileDataset, FileLayout
from dbp.data.source import FileSource, layout_of
from dbp.errors import UserError

MOST_LAYOUTS = 8  # that are known at a time
TICKS = 10**8  # nanoseconds; file systems date changes to some milliseconds, so that two may have the same date


class KnownLayout(NamedTuple):
    """What was found in a file.

    Args:
        source: the file, and the names of its columns.
        with_targets: whether its targets are read.
        stamp: by which a changed file is recognized.
        layout: the positions of its columns.
        warnings: what the user should know of the data.
    """

    source: FileSource
    with_targets: bool
    stamp: tuple[int, ...]
    layout: FileLayout
    warnings: Sequence[str]


_known: deque[KnownLayout] = deque(maxlen=MOST_LAYOUTS)


class Found(NamedTuple):
    """What was found in the files of a data set.

    Args:
        layout: by what other processes open them; None if they cannot.
        warnings: what the user should know of the data.
        data: the data set, if it was opened.
    """

    layout: FileLayout | JoinedLayout | None
    warnings: Sequence[str]
    data: FileDataset | None = None


def look_into(source: FileSource, with_targets: bool) -> Found:
    """Return what is in the files of a data set, which are opened unless it is known.

    Args:
        source: the data set.
        with_targets: whether its targets are read.
    """
    stamp = _stamp(source)  # before it is opened, so that a change in the meantime is seen next time
    of_source = [one for one in _known if one.with_targets == with_targets and one.source == source]
    for one in of_source:
        if one.stamp == stamp:
            return Found(one.layout, one.warnings)
        _known.remove(one)
    data = source.open(with_targets)
    layout, warnings = layout_of(data), tuple(data.warnings)
    if stamp is not None and isinstance(layout, FileLayout) and _is_plain(layout):
        _known.append(KnownLayout(source, with_targets, stamp, layout, warnings))
    return Found(layout, warnings, data)


def _is_plain(layout: FileLayout) -> bool:
    """Return True for a layout that takes little memory, of a file that needs no others."""
    return layout.row_names is None and all(type(column) is Column for column in layout.columns.values())


def _stamp(source: FileSource) -> tuple[int, ...] | None:
    """Return what tells a file from others, and from itself before a change; None where that cannot be told.

    It cannot for several files, and for one that has changed just now.
    """
    if len(source.files) != 1:
        return None
    try:
        found = data_path(source.files[0]).stat()
    except (OSError, UserError):  # which is raised when it is opened
        return None
    dates = found.st_mtime_ns, found.st_ctime_ns
    is_old = max(dates) < time.time_ns() - TICKS
    return (found.st_dev, found.st_ino, found.st_size, *dates) if is_old else None
