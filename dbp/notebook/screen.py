"""A terminal that ranks write to, whose text is shown in the output of a notebook."""

from __future__ import annotations

import codecs
import fcntl
import os
import select
import struct
import sys
import termios
import time
from typing import Self

from dbp.terminal import columns_of

ROWS, COLUMNS = 24, 100  # of a notebook
SECONDS = 0.2  # from one picture of the progress bar to the next


class Screen:
    """A pseudo-terminal, so that ranks show their progress bar, as a context manager.

    Its text goes to sys.stdout, some pictures of the bar a second, each of which takes the place of the one before.
    """

    def __enter__(self) -> Self:
        self._source, self.terminal = os.openpty()
        attributes = termios.tcgetattr(self.terminal)
        attributes[1] &= ~termios.OPOST  # a line ends with a line feed alone
        termios.tcsetattr(self.terminal, termios.TCSANOW, attributes)
        fcntl.ioctl(
            self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns_of(sys.stdout) or COLUMNS, 0, 0)
        )
        self._text, self._lines = "", Lines()
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self.terminal)
        os.close(self._source)

    def show(self) -> None:
        """Show what comes within a moment."""
        self._collect(SECONDS)
        self._write()

    def show_rest(self) -> None:
        """Show what has come since, after all that write have ended."""
        self._collect(0)
        self._write()

    def _collect(self, seconds: float) -> None:
        """Read what comes within some seconds; a terminal holds a few kB only, and who writes more waits."""
        until = time.monotonic() + seconds
        while select.select([self._source], [], [], max(0, until - time.monotonic()))[0]:
            self._text += self._decode(os.read(self._source, 65536))
            if time.monotonic() > until + SECONDS:  # it may never end
                return

    def _write(self) -> None:
        text, self._text = self._lines.shown(self._text), ""
        if text:
            sys.stdout.write(text)
            sys.stdout.flush()


class Lines:
    """The lines of a terminal that takes some pictures a second of a line that is written anew, such as a bar."""

    def __init__(self) -> None:
        self._shown = ""  # of the last line, which is not complete

    def shown(self, text: str) -> str:
        """Return what a text adds to what is shown, each line as it is at the end, without the pictures before."""
        *complete, last = (self._shown + text).split("\n")
        found = "".join(f"{self._after(_overwritten(line).rstrip())}\n" for line in complete)
        return found + self._after(_overwritten(last), complete=False)

    def _after(self, line: str, complete: bool = True) -> str:
        """Return what turns the line that is shown into this one, and go to the next if it is complete."""
        before, self._shown = self._shown, "" if complete else line
        return line.removeprefix(before) if line.startswith(before) else f"\r{line.ljust(len(before))}"


def _overwritten(line: str) -> str:
    """Return what is left of a line of which parts, after carriage returns, are written over others."""
    found = ""
    for part in line.split("\r"):
        found = part + found[len(part) :]
    return found
