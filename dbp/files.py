"""Whole files: written under a temporary name, flushed to the disk, checked, renamed.

At any instant a name leads to the old file or to the whole new one. What the system refuses becomes a StorageError that
names the file and the reason.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import glob
import io
import itertools
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

from dbp.errors import StorageError, UserError
from dbp.text import is_digits

FOLDER_SYNC_UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP)  # what fsync of a folder answers on some file systems
PIECE_BYTES = 1 << 22  # written or hashed at a time, so that other threads get their turn in between
SHOWN_LETTERS = 50  # of a name in the temporary one, so that it is not too long
NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
Made = TypeVar("Made")
Action = Callable[[], None]
PARTIAL = ".partial"  # the ending of temporary names
NO_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


def partial_name(path: Path, number: int = 0) -> Path:
    """Return a temporary name under which this process can write a file."""
    return path.with_name(f"{_beginning(path)}{os.getpid()}-{number}{PARTIAL}")


def _beginning(path: Path) -> str:
    """Return the beginning of temporary names that processes with the same numbering as this one write."""
    return f".{path.name[:SHOWN_LETTERS]}.{process_space()}-"


@functools.cache
def process_space() -> str:
    """Return a short name of the processes among which a number means the same: those of a host, or of a container."""
    space = os.uname().nodename
    with contextlib.suppress(OSError):
        space += str(Path("/proc/self/ns/pid").stat().st_ino)
    return f"{zlib.crc32(space.encode()):08x}"


def remove_left(path: Path) -> None:
    """Remove the temporary files of this name whose processes were killed, as far as this process can know."""
    beginning = _beginning(path)
    for left in path.parent.glob(f"{glob.escape(beginning)}*{PARTIAL}"):
        process = left.name[len(beginning) : -len(PARTIAL)].partition("-")[0]
        if is_digits(process) and not _lives(int(process)):
            with contextlib.suppress(OSError):
                left.unlink()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is another user's
        pass
    return True


class NewFile:
    """A file that has no name while it is written, or where the system has no such files a temporary one.

    Nothing is left of a file without a name if its process is killed. commit() gives it a temporary name, and its own
    once it is checked. No other process uses the same temporary name: each is created anew, on all hosts.

    Args:
        path: the name.
        check: called with the temporary name before the file gets its own; raises OSError to refuse it.
        remedy: what the user can do, added to the message of a failure.
        replaces: whether a file of that name is replaced.
    """

    def __init__(
        self,
        path: Path,
        check: Callable[[Path], None] = lambda _: None,
        remedy: str = "",
        replaces: bool = True,
    ):
        self._path, self._check, self._remedy, self._replaces = path, check, remedy, replaces
        self._partial: Path | None = None  # its temporary name; None while it has no name
        self._file: BinaryIO | None = None  # until it is committed or discarded

    def create(self) -> BinaryIO:
        """Open the file for writing; raise StorageError if that fails."""
        with writing_to(self._path, self._remedy):
            self._file = _unnamed_file(self._path.parent)
            if self._file is None:
                self._partial, descriptor = self._with_partial_name(lambda name: os.open(name, NEW, 0o666))
                self._file = os.fdopen(descriptor, "w+b")
        return self._file

    def _with_partial_name(self, make: Callable[[Path], Made]) -> tuple[Path, Made]:
        """Make a file under the first temporary name that is free; return the name, and what that returns."""
        for number in itertools.count():
            name = partial_name(self._path, number)
            with contextlib.suppress(FileExistsError):  # that of another thread, host, or killed process
                return name, make(name)
        raise AssertionError

    def commit(self) -> None:
        """Flush the file to the disk, check it and give it its name.

        Raises:
            StorageError: that fails.
            UserError: another file has this name, and must not be replaced.
        """
        file = self._file
        assert file is not None
        with writing_to(self._path, self._remedy):
            file.flush()
            os.fsync(file.fileno())
            if self._partial is None:
                self._partial, _ = self._with_partial_name(lambda name: _link(file, name))
            file.close()
            self._check(self._partial)
            if self._replaces or not self._is_linked():
                self._partial.replace(self._path)
            self._file = None
            sync_folder(self._path.parent)

    def _is_linked(self) -> bool:
        """Give the file its name unless that is taken; return False if the file system has no means for it."""
        assert self._partial is not None
        try:
            self._path.hardlink_to(self._partial)
        except FileExistsError:
            raise _taken(self._path) from None
        except OSError:
            must_be_free(self._path, overwrite=False)
            return False
        self._partial.unlink()
        return True

    def discard(self) -> None:
        """Remove the file unless it is committed."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()  # which fails if bytes are left that the disk has no room for
            with contextlib.suppress(OSError):
                if self._partial is not None:
                    self._partial.unlink(missing_ok=True)
            self._file = None


def _unnamed_file(folder: Path) -> BinaryIO | None:
    """Open a new file without a name in a folder for writing; return None where the system has no such files."""
    if not hasattr(os, "O_TMPFILE"):
        return None
    try:
        file = os.fdopen(os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666), "w+b")
    except OSError:  # of the folder, if it fails with a name too
        return None
    if _path_of(file).exists():
        return file
    file.close()
    return None


def _path_of(file: BinaryIO) -> Path:
    """Return a path by which this process can open a file that it has open, whatever its name."""
    return Path(f"/proc/self/fd/{file.fileno()}")


def _link(file: BinaryIO, name: Path) -> None:
    """Give a name to a file without one; where the file system refuses that, copy it to a file of that name."""
    try:
        # With a descriptor of a folder, which an absolute path makes no use of, the link that is the path is followed.
        os.link(_path_of(file), name, src_dir_fd=file.fileno())
    except FileExistsError:
        raise
    except OSError:
        with _path_of(file).open("rb") as source, name.open("xb") as target:
            shutil.copyfileobj(source, target)
            target.flush()
            os.fsync(target.fileno())


@contextlib.contextmanager
def new_file(
    path: Path, check: Callable[[Path], None] = lambda _: None, remedy: str = "", replaces: bool = True
) -> Iterator[BinaryIO]:
    """Yield a file to write to, which is committed at the end of the with statement, or discarded if anything failed.

    Args: those of NewFile.

    Raises:
        StorageError: the file could not be written; nothing half-written is left, and an old file is as it was.
    """
    new = NewFile(path, check, remedy, replaces)
    try:
        with writing_to(path, remedy):
            yield new.create()
        new.commit()
    finally:
        new.discard()


def write_file(path: Path, content: bytes, remedy: str = "", replaces: bool = True) -> None:
    """Write a file whose content is in memory; see new_file()."""
    with new_file(path, remedy=remedy, replaces=replaces) as file:
        file.write(content)


def no_pause() -> None:
    """Return at once: nobody waits for the processor."""


def write_at(file: BinaryIO | io.RawIOBase, offset: int, data: memoryview, pause: Action = no_pause) -> None:
    """Write bytes at a position of a file, piece by piece; `pause` is called before each piece."""
    file.seek(offset)
    for piece in pieces(data, pause):
        file.write(piece)


def pieces(data: memoryview, pause: Action = no_pause) -> Iterator[memoryview]:
    """Yield consecutive pieces of at most PIECE_BYTES; `pause` is called before each."""
    for start in range(0, len(data), PIECE_BYTES):
        pause()
        yield data[start : start + PIECE_BYTES]


def sync_folder(path: Path) -> None:
    """Flush the names in a folder to the disk, so that they outlive a power cut."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in FOLDER_SYNC_UNSUPPORTED:
            raise
    finally:
        os.close(folder)


def must_be_free(path: Path, overwrite: bool, read: Iterable[Path] = (), permission: str = "--overwrite") -> None:
    """Raise UserError if a file of that name exists and may not be replaced.

    Args:
        path: the name of a file to write.
        overwrite: whether the user lets it be replaced.
        read: files that are read, which must not be replaced in any case.
        permission: how the user lets it be replaced.
    """
    with reading_from(path):
        if not path.exists():
            return
        if not overwrite:
            raise _taken(path, permission)
        if not path.is_file():
            raise UserError(f"{path} is not a plain file, and cannot be replaced; choose another name")
        for other in read:
            if other.exists() and path.samefile(other):
                raise UserError(f"{path} is {other}, an input of this command; choose another name for the output")


def _taken(path: Path, permission: str = "--overwrite") -> UserError:
    return UserError(f"{path} exists; choose another name or pass {permission}")


def machine_memory() -> int:
    """Return the bytes of memory of this machine, more than which no content of a file can take."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_fits_memory(size: int, what: str) -> None:
    """Raise UserError if so many bytes are more than this machine has memory."""
    if size > (memory := machine_memory()):
        raise UserError(f"{what} takes {size:,} bytes, but this machine has {memory:,}; take a part of it")


# --- failures -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def reading_from(what: Path | str) -> Iterator[None]:
    """Raise StorageError, or UserError for a file that is not there, in place of an OSError while a file is read.

    Args:
        what: the file or folder, as the message names it.
    """
    try:
        yield
    except NO_FILE as error:
        raise UserError(f"{what} cannot be read: {error.strerror}") from None
    except OSError as error:
        raise _storage_error(f"{what} cannot be read", error) from None


@contextlib.contextmanager
def writing_to(what: Path | str, remedy: str = "") -> Iterator[None]:
    """Raise StorageError in place of an OSError while a file is written.

    Args:
        what: the file or folder, as the message names it.
        remedy: what the user can do, added to the message.
    """
    try:
        yield
    except OSError as error:
        raise _storage_error(f"{what} cannot be written", error, remedy) from None


def _storage_error(failure: str, error: OSError, remedy: str = "") -> StorageError:
    """Return the StorageError for an OSError, whose own text may be pages long if it comes from HDF5."""
    reason = f"{os.strerror(error.errno)} (errno {error.errno})" if error.errno else str(error)
    return StorageError(f"{failure}: {reason}{remedy}", reason)
