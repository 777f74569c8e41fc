"""Plain files: what is a link, a pipe or a device in their place is not opened, as it may lead or wait anywhere."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from dbp.errors import UserError

NOT_PLAIN = "it is a link, a pipe, a device or a folder, but must be a plain file; remove it"
OTHER_NAME = "it is a hard link, so that a file with another name would be changed; remove it"


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


def check_is_file(path: Path, what: str) -> None:
    """Raise UserError if something is no plain file, such as a pipe or a device, which may never end.

    Raises:
        OSError: there is nothing of that name.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise UserError(f"{what} is not a plain file; save its content to one, and name that")
