"""The output of a launcher, and its error output without what Open MPI says about the end of a job.

dbp reports errors itself. What is left out is kept, for a job that ends without a word of its own.
"""

from __future__ import annotations

import os
import re
from typing import BinaryIO

from dbp.terminal import discard

BANNER = b"-" * 50
UNREACHED_RANK = re.compile(rb"^\[[^\]\n]*\] PMIX ERROR: PMIX_ERR_UNREACH .*\n", re.MULTILINE)  # about an ended rank
END_OF_JOB = (b"MPI_ABORT was invoked", b"prterun", b"mpirun", b"mpiexec", b"MPI_Abort", b"non-zero", b"orterun")


def copy(source: int, target: BinaryIO) -> None:
    """Copy a stream to its end, even if the target takes no more, as its reader has ended: Open MPI's would abort."""
    while chunk := os.read(source, 65536):
        try:
            target.write(chunk)
            target.flush()
        except OSError:
            discard(target)


class WithoutBanners:
    """A copy of a stream without Open MPI's banners about the end of a job, which stand between two dashed lines.

    Args:
        target: where it is written.
    """

    def __init__(self, target: BinaryIO):
        self._target = target
        self.banners = b""  # those that were left out
        self.is_empty = True  # whether nothing else has come

    def copy(self, source: int) -> None:
        """Copy a stream to its end, even if the target takes no more, such as a full disk: else the launcher waits."""
        pending = b""
        while chunk := os.read(source, 65536):
            pending = self._copy_complete(pending + chunk.replace(b"\0", b""))  # Open MPI ends some banners with a zero
        self._write(pending)  # a banner that was never closed

    def _write(self, text: bytes) -> None:
        self.is_empty = self.is_empty and not text.strip()
        try:
            self._target.write(text)
            self._target.flush()
        except OSError:
            discard(self._target)

    def _copy_complete(self, text: bytes) -> bytes:
        """Write what is known to lie outside of such banners; return the rest, which may be the beginning of one."""
        while (start := text.find(BANNER)) >= 0:
            self._write(UNREACHED_RANK.sub(b"", text[:start]))
            text = text[start:]
            inside = text.find(b"\n")
            closing = text.find(BANNER, inside) if inside >= 0 else -1
            end = text.find(b"\n", closing) if closing >= 0 else -1
            if end < 0:  # the banner is not complete
                return text
            if any(mark in text[:end] for mark in END_OF_JOB):
                self.banners += text[: end + 1]
            else:
                self._write(text[: end + 1])
            text = text[end + 1 :]
        certain = len(text.rstrip(b"-"))  # dashes at the end may be the beginning of a banner
        self._write(UNREACHED_RANK.sub(b"", text[:certain]))
        return text[certain:]
