"""Files that are whole or not there: written under a temporary name, brought to the disk, verified, renamed."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from dbp.errors import StorageError

WITHOUT_SYNC = (errno.EINVAL, errno.ENOTSUP)  # of file systems that know no such thing for folders


def partial_name(path: Path) -> Path:
    """Under which a file is written."""
    return path.with_name(f".{path.name}.partial")


@contextlib.contextmanager
def committed(path: Path, check: Callable[[Path], None] = lambda _: None) -> Iterator[BinaryIO]:
    """A file to be written to; at any instant either the old or the whole new one bears the name.

    Args:
        path: the name.
        check: what the file must pass, under its temporary name, before it bears this one.
    """
    partial = partial_name(path)
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        check(partial)
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Bring the names in a folder to the disk, so that they outlive a power cut."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in WITHOUT_SYNC:
            raise
    finally:
        os.close(folder)


def commit(path: Path, content: bytes) -> None:
    """Write a small file."""
    with committed(path) as file:
        file.write(content)


@contextlib.contextmanager
def reading_from(path: Path) -> Iterator[None]:
    """Turns what the system says when a file or folder cannot be read into a StorageError that names it."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror} (errno {error.errno})") from None


@contextlib.contextmanager
def writing_to(path: Path, remedy: str = "") -> Iterator[None]:
    """Turns what the system says when a file cannot be written into a StorageError that names the file."""
    try:
        yield
    except OSError as error:
        reason = f"{error.strerror} (errno {error.errno})" if error.errno else str(error)
        raise StorageError(f"{path} cannot be written: {reason}{remedy}") from None
