"""The identity of a large data set, told without reading all of it: sizes, attributes, a sample of rows, and times."""

from __future__ import annotations

import hashlib

from dbp.data.check import sample_digest
from dbp.data.dataset import Dataset, example_form, paths_of
from dbp.data.meaning import Meaning, meaning_text
from dbp.files import reading_from

CHECKED_AT_START_BYTES = 256_000_000  # of all columns, unpacked; the rows of larger data are checked as they are read
MOST_FILES = 64  # of a data set, which each rank looks at
WRITTEN = "; written "  # between what the data is and when its files were written


def stored_bytes(data: Dataset) -> int:
    """Return the bytes of all columns of a data set, unpacked."""
    return len(data) * sum(column.nbytes for column in example_form(data).values())


def is_checked_at_start(data: Dataset) -> bool:
    """Return True if all rows of a data set are checked before they are used, which takes little time."""
    return stored_bytes(data) <= CHECKED_AT_START_BYTES


def identity_of(data: Dataset) -> str:
    """Return what tells a data set from others, without reading all of it, and when its files were written."""
    meaning: Meaning = getattr(data, "meaning", {})
    sizes, times = [stored_bytes(data)], [0]
    for path in paths_of(data):
        with reading_from(f"data file {path}"):
            found = path.stat()
        sizes.append(found.st_size)
        times.append(found.st_mtime_ns)
    digest = hashlib.sha256(f"{meaning_text(meaning)}{sizes}".encode()).hexdigest()[:16]
    return f"sample of {sample_digest(data)}, attributes and sizes {digest}{WRITTEN}{max(times)}"


def same_files(data: Dataset) -> str:
    """Return what only ranks that see the same files of a data set have in common; "" if it is in no files.

    The inode numbers of a file system that nodes share are the same on all of them. Of many files some are looked at.
    """
    paths = paths_of(data)
    found = []
    for path in paths[:: -(-len(paths) // MOST_FILES) or 1]:
        with reading_from(f"data file {path}"):
            status = path.stat()
        found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return repr(found) if found else ""


def is_same_but_written_since(one: object, other: object) -> bool:
    """Return True if two identities differ in nothing but the time at which files were written."""
    parts = [text.partition(WRITTEN) for text in (one, other) if isinstance(text, str)]
    return len(parts) == 2 and parts[0] != parts[1] and parts[0][:2] == parts[1][:2] and bool(parts[0][1])
