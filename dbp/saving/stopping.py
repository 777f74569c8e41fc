"""What asks a run to stop after the step in progress: a signal, a stop file, a time limit.

A signal's handler only sets a flag, which goes to all ranks with the sums of the step. This is imported before
anything that takes long, so that no signal finds a rank without its handler.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from dbp.errors import Stopped, UserError

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
LOOK = 1.0  # seconds between two looks for the stop file
RESERVE = 2.0  # times the longest step and the longest save that are left before a time limit
AT_LEAST = 2.0  # seconds that are
TOOK = ("step_seconds", "save_seconds")  # in the status of a run


class Signals:
    """Remembers the signals that this process gets."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self._before: dict[int, Any] = {}
        self._users = 0
        self.since = time.monotonic()

    def __enter__(self) -> None:
        self.enter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.leave(ends=isinstance(error, Stopped))

    def enter(self) -> None:
        """From now on they are remembered; a second SIGINT ends the process at once."""
        self._users += 1
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            if number in self._before or signal.getsignal(number) is not signal.SIG_IGN:
                self._before.setdefault(number, signal.getsignal(number))
                signal.signal(number, self._handle)

    def leave(self, *, ends: bool) -> None:
        """When all who have entered have left: signals do again what they did before, and are forgotten.

        Args:
            ends: the process is about to end: a signal that comes late must not change its exit code, so that all are
                ignored but a second SIGINT.
        """
        self._users -= 1
        if self._users:
            return
        for number, handler in self._before.items():
            if not ends:
                signal.signal(number, handler)
            elif number != signal.SIGINT:
                signal.signal(number, signal.SIG_IGN)
        if not ends:
            self._before, self.received = {}, []

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and number in self.received:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received.append(number)


signals = Signals()


class Stopping:
    """Whether a run is to stop.

    Args:
        leads: whether this rank looks for the stop file and at the time.
        file: whose presence asks for it.
        limit: seconds after the start of the process until which the run must have ended.
    """

    def __init__(self, leads: bool, file: Path | None = None, limit: float | None = None):
        self._leads, self._file, self._limit = leads, file, limit
        self._looked = self._last = time.monotonic()
        self._longest = self._save = 0.0
        self._step = 0.0  # seconds that it took on average, in this start or, before its second, an earlier one
        self._first, self._steps = self._last, 0
        self.reason = ""

    def asks(self) -> bool:
        """Whether this rank asks for it; called with every sum."""
        if not self.reason and (signals.received or self._leads):
            self.reason = self._found()
        return bool(self.reason)

    def _found(self) -> str:
        if signals.received:
            return signal.Signals(signals.received[0]).name
        now = time.monotonic()
        if self._limit is not None and now - signals.since + self._reserve > self._limit:
            return f"the time limit of {self._limit:.0f} s"
        if self._file is not None and now - self._looked > LOOK:
            self._looked = now
            if os.path.exists(self._file):  # noqa: PTH110  that of a Path raises what a disk says that fails
                return f"the file {self._file}"
        return ""

    @property
    def _reserve(self) -> float:
        return RESERVE * (self._longest + self._save) + AT_LEAST

    def after_step(self) -> None:
        """A step is done, with all that lay between it and the one before."""
        now = time.monotonic()
        self._longest, self._last = max(self._longest, now - self._last), now
        if self._steps == 0:  # which began with all that comes before it
            self._first = now
        else:
            self._step = (now - self._first) / self._steps
        self._steps += 1

    def after_save(self, seconds: float) -> None:
        """A checkpoint took so many seconds."""
        self._save = max(self._save, seconds)

    @property
    def seconds(self) -> dict[str, float]:
        """What a step of this run took on average, and the longest save; 0 where that is not known yet."""
        return {name: round(value, 6) for name, value in zip(TOOK, (self._step, self._save), strict=True)}

    def check(self, earlier: Mapping[str, Any]) -> None:
        """UserError if the time limit leaves no time for a step and a save.

        Args:
            earlier: what they took when this run was started before, as `seconds` tells.
        """
        self._step, self._save = took_earlier(earlier)
        gone, needed = time.monotonic() - signals.since, self._step + self._save + AT_LEAST
        if self._limit is not None and self._limit - gone < needed:
            took = f", which took {self._step:.2g} s and {self._save:.2g} s" if self._step or self._save else ""
            raise UserError(
                f"the time limit of {self._limit:.0f} s leaves no time for the start, a step and a checkpoint{took}; "
                f"give {math.ceil(gone + RESERVE * needed)} s at the least"
            )

    def obeyed(self) -> None:
        """The run stops: the file has done its work."""
        if self._leads and self._file is not None:
            with contextlib.suppress(OSError):
                self._file.unlink(missing_ok=True)


def took_earlier(status: Mapping[str, Any]) -> tuple[float, float]:
    """Seconds of a step and of a save, as the status of a run tells of its last start; 0 where it does not."""
    step, save = (float(value) if isinstance(value, (int, float)) else 0.0 for value in map(status.get, TOOK))
    return step, save
