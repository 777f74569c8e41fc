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
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from dbp.errors import StorageError, UserError
from dbp.text import is_digits

FOLDER_SYNC_UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP)  # what fsync of a folder answers on some file systems
PIECE_BYTES = 1 << 22  # written or hashed at a time, so that other threads get their turn in between
SHOWN_LETTERS = 50  # of a name in the temporary one, so that it is not too long
PAGE_BYTES = 1 << 12  # of a file that is laid out in memory
NOT_PLAIN = "it is a link, a pipe, a device or a folder, but must be a plain file; remove it"
OTHER_NAME = "it is a hard link, so that a file with another name would be changed; remove it"
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
    """A file that is written under a temporary name until commit() gives it its own.

    No other process writes to the same temporary name: each file is created anew, on all hosts.

    Args:
        path: the name.
        check: called with the temporary name before the file is renamed; raises OSError to refuse it.
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
        self._partial = path
        self._file: BinaryIO | None = None  # until it is committed or discarded

    def create(self) -> BinaryIO:
        """Open the file under its temporary name; raise StorageError if that fails."""
        with writing_to(self._path, self._remedy):
            for number in itertools.count():
                self._partial = partial_name(self._path, number)
                with contextlib.suppress(FileExistsError):  # that of another thread, host, or killed process
                    self._file = self._partial.open("x+b")
                    break
        assert self._file is not None
        return self._file

    def commit(self) -> None:
        """Flush the file to the disk, check it and give it its name.

        Raises:
            StorageError: that fails.
            UserError: another file has this name, and must not be replaced.
        """
        assert self._file is not None
        with writing_to(self._path, self._remedy):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._check(self._partial)
            if self._replaces or not self._is_linked():
                self._partial.replace(self._path)
            self._file = None
            sync_folder(self._path.parent)

    def _is_linked(self) -> bool:
        """Give the file its name unless that is taken; return False if the file system has no means for it."""
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
                self._partial.unlink(missing_ok=True)
            self._file = None


def open_plain(path: Path, flags: int) -> int:
    """Open a file and return its descriptor; unlike open(), follow no link, and wait for no other end of a pipe.

    Raises:
        OSError: it cannot be opened, or is a link, a pipe, a device or a folder.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # of a link; of a pipe that nobody reads, a socket
            raise OSError(NOT_PLAIN) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(NOT_PLAIN)
    return descriptor


def open_own(path: Path, flags: int) -> int:
    """Open a file for writing as open_plain() does, unless it has another name too, under which it may be of others.

    Raises:
        OSError: it cannot be opened, is no plain file, or has another name.
    """
    descriptor = open_plain(path, flags)
    if os.fstat(descriptor).st_nlink > 1:
        os.close(descriptor)
        raise OSError(OTHER_NAME)
    return descriptor


def read_plain(path: Path, most: int) -> str:
    """Return the text in a small file, opened by open_plain().

    Raises:
        OSError: it cannot be read, or has more than `most` bytes.
    """
    with os.fdopen(open_plain(path, os.O_RDONLY), "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(f"it has more than {most:,} bytes")
    return content.decode(errors="replace")


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


def write_at(file: BinaryIO | SparseFile, offset: int, data: memoryview) -> None:
    """Write bytes at a position of a file, piece by piece."""
    file.seek(offset)
    for piece in pieces(data):
        file.write(piece)


def pieces(data: memoryview) -> Iterator[memoryview]:
    """Yield consecutive pieces of at most PIECE_BYTES."""
    for start in range(0, len(data), PIECE_BYTES):
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


def must_be_free(path: Path, overwrite: bool, read: Iterable[Path] = ()) -> None:
    """Raise UserError if a file of that name exists and may not be replaced.

    Args:
        path: the name of a file to write.
        overwrite: whether the user lets it be replaced.
        read: files that are read, which must not be replaced in any case.
    """
    with reading_from(path):
        if not path.exists():
            return
        if not overwrite:
            raise _taken(path)
        if not path.is_file():
            raise UserError(f"{path} is not a plain file, and cannot be replaced; choose another name")
        for other in read:
            if other.exists() and path.samefile(other):
                raise UserError(f"{path} is {other}, an input of this command; choose another name for the output")


def _taken(path: Path) -> UserError:
    return UserError(f"{path} exists; choose another name or pass --overwrite")


def check_is_file(path: Path, what: str) -> None:
    """Raise UserError if something is no plain file, such as a pipe or a device, which may never end.

    Raises:
        OSError: there is nothing of that name.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise UserError(f"{what} is not a plain file; save its content to one, and name that")


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


# --- files that are laid out in memory ----------------------------------------------------------------


class SparseFile(io.RawIOBase):
    """A file in memory that holds only the pages written to; the gaps between them take no memory.

    HDF5 lays out a file in it without the values of the arrays, which then go to the disk by plain writes. HDF5 itself
    never writes to the disk, where it ends the process if the disk is full.
    """

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}  # by number
        self._length = self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position."""
        self._position = offset + (0, self._position, self._length)[whence]
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def write(self, data: Any) -> int:
        """Write bytes at the position."""
        view = memoryview(data).cast("B")
        for number, inside, part in self._parts(view):
            self._pages.setdefault(number, bytearray(PAGE_BYTES))[inside] = part
        self._length = max(self._length, self._position)
        return len(view)

    def readinto(self, target: Any) -> int:
        """Read bytes at the position: zeros in the gaps, and after the end."""
        view = memoryview(target).cast("B")
        for number, inside, part in self._parts(view):
            part[:] = self._pages[number][inside] if number in self._pages else bytes(len(part))
        return len(view)

    def _parts(self, view: memoryview) -> Iterator[tuple[int, slice, memoryview]]:
        """Yield the parts of a buffer that lie in one page each, with page and place; move the position past them."""
        done = 0
        while done < len(view):
            number, first = divmod(self._position, PAGE_BYTES)
            part = view[done : done + PAGE_BYTES - first]
            yield number, slice(first, first + len(part)), part
            done += len(part)
            self._position += len(part)

    def truncate(self, size: int | None = None) -> int:
        """Set the length."""
        self._length = self._position if size is None else size
        return self._length

    def copy_to(self, file: BinaryIO) -> None:
        """Write this file to one on the disk, with gaps there too, by as few writes as possible."""
        run: list[int] = []  # pages that follow one another
        for number in sorted(self._pages):
            if run and number != run[-1] + 1:
                self._copy_run(run, file)
                run = []
            run.append(number)
        self._copy_run(run, file)
        file.truncate(self._length)

    def _copy_run(self, run: list[int], file: BinaryIO) -> None:
        if run:
            pages = bytearray().join(self._pages[number] for number in run)
            write_at(file, run[0] * PAGE_BYTES, memoryview(pages))
