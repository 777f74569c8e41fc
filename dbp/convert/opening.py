"""Open files that others have written, plain or packed by gzip; what cannot be read is refused in one line."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dbp.errors import UserError
from dbp.files import reading_from
from dbp.plain_files import check_is_file

GZIP = b"\x1f\x8b"  # at the start of a packed file
Stream = gzip.GzipFile | io.BufferedReader


@contextmanager
def unpacked(path: Path) -> Iterator[Stream]:
    """Open a file; it is unpacked while it is read if its first bytes, not its name, are those of gzip."""
    with reading_from(path):
        check_is_file(path, str(path))
        file = path.open("rb")
    with file:
        try:
            is_packed = file.read(len(GZIP)) == GZIP
            file.seek(0)
            yield gzip.GzipFile(fileobj=file) if is_packed else file
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(f"{path} cannot be unpacked: {error}") from None
        except OSError:
            with reading_from(path):
                raise
        except MemoryError:
            raise UserError(f"{path} takes more memory than there is; take a part of it") from None
