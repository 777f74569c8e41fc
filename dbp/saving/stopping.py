"""Requests to stop a run after the current step: a signal, a stop file, a time limit.

The handler of a signal only sets a flag, which reaches all ranks with the sums of the step. This module is imported
before anything slow, so that a rank has its handler before a signal can come.
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

from dbp.errors import UserError
from dbp.process.note import read_note

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
INTERRUPT = "SIGINT (Ctrl-C)"
RESUMES = "the same command resumes a training from its last checkpoint"
INTERRUPTED_TWICE = f"dbp: interrupted twice, and ended at once without saving; {RESUMES}"
LAUNCHER_SIGNAL = "DBP_SIGNAL"  # environment variable of dbp run: its note of the last signal that it has passed on
STOP_FILE_SECONDS = 1.0  # between two checks for the stop file
RESERVE_FACTOR = 2.0  # times the longest step and the longest save: the time reserved before a time limit
RESERVE_SECONDS = 2.0  # reserved besides
DURATIONS = ("step_seconds", "save_seconds")  # keys in the status of a run


class Signals:
    """The signals that this process has received, as a context manager that handles them and may be nested."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self._before: dict[int, Any] = {}
        self._users, self._ends = 0, False
        self.since = time.monotonic()

    def __enter__(self) -> None:
        self.enter()

    def __exit__(self, *error: object) -> None:
        self.leave()

    def enter(self, *, ends: bool = False) -> None:
        """Handle signals from now on; a second SIGINT does at once what it did before.

        Args:
            ends: whether the process ends with the outermost block. Then a second SIGINT kills it, and a signal that
                comes after the block is ignored, as it must not change the exit code.
        """
        self._users += 1
        self._ends = self._ends or ends
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            if number in self._before or signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._before.setdefault(number, signal.getsignal(number))
                signal.signal(number, self._handle)

    def leave(self) -> None:
        """Restore the earlier handlers and forget the signals, when the outermost block is left."""
        self._users -= 1
        if self._users:
            return
        for number, handler in self._before.items():
            if not self._ends:
                signal.signal(number, handler)
            elif number != signal.SIGINT:
                signal.signal(number, signal.SIG_IGN)
        if not self._ends:
            self._before, self.received = {}, []

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGINT or number not in self.received:
            self.received.append(number)
        elif not self._ends and callable(before := self._before[number]):
            before(number, frame)  # as a rule Python's own, which raises KeyboardInterrupt
        else:
            with contextlib.suppress(OSError):
                os.write(2, f"\n{INTERRUPTED_TWICE}\n".encode())  # a stream may be in the middle of a line
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    @property
    def name(self) -> str:
        """Return the name of the first signal; dbp run passes on others as SIGUSR1."""
        number = self.received[0]
        if number == signal.SIGUSR1:
            with contextlib.suppress(ValueError):
                number = signal.Signals(int(read_note(os.environ.get(LAUNCHER_SIGNAL, ""))))
        return INTERRUPT if number == signal.SIGINT else signal.Signals(number).name


signals = Signals()


class Stopping:
    """The requests to stop one run.

    Args:
        leads: whether this rank checks the stop file and the time limit.
        file: the stop file.
        limit: seconds from the start of the process by which the run must have ended.
    """

    def __init__(self, leads: bool, file: Path | None = None, limit: float | None = None):
        self._leads, self._file, self._limit = leads, file, limit
        self._looked = self._last = time.monotonic()
        self._longest = self._save = 0.0
        self._step = 0.0  # average seconds of a step, of an earlier start until this one has made two
        self._first, self._steps = self._last, 0
        self.reason = ""

    def is_requested(self) -> bool:
        """Return True if this rank has a request; called with every sum."""
        if not self.reason and (signals.received or self._leads):
            self.reason = self._find_reason()
        return bool(self.reason)

    def _find_reason(self) -> str:
        if signals.received:
            return signals.name
        now = time.monotonic()
        if self._limit is not None and now - signals.since + self._reserve > self._limit:
            return f"the time limit of {self._limit:.0f} s"
        if self._file is not None and now - self._looked > STOP_FILE_SECONDS:
            self._looked = now
            if os.path.exists(self._file):  # noqa: PTH110  unlike Path.exists(), it does not raise if a disk fails
                return f"the file {self._file}"
        return ""

    @property
    def _reserve(self) -> float:
        return RESERVE_FACTOR * (self._longest + self._save) + RESERVE_SECONDS

    def note_step_time(self) -> None:
        """Note that a step has ended; its time counts from the end of the one before."""
        now = time.monotonic()
        self._longest, self._last = max(self._longest, now - self._last), now
        if self._steps == 0:  # its time includes the start of the run
            self._first = now
        else:
            self._step = (now - self._first) / self._steps
        self._steps += 1

    def note_save_time(self, seconds: float) -> None:
        """Note how many seconds a checkpoint took."""
        self._save = max(self._save, seconds)

    @property
    def seconds(self) -> dict[str, float]:
        """Return the average seconds of a step and those of the longest save; 0 if not known yet."""
        return {name: round(value, 6) for name, value in zip(DURATIONS, (self._step, self._save), strict=True)}

    def check(self, earlier: Mapping[str, Any]) -> None:
        """Raise UserError if the time limit leaves no time for a step and a save.

        Args:
            earlier: the status of an earlier start of this run, with the seconds that they took.
        """
        self._step, self._save = earlier_durations(earlier)
        gone, needed = time.monotonic() - signals.since, self._step + self._save + RESERVE_SECONDS
        if self._limit is not None and self._limit - gone < needed:
            took = f", which took {self._step:.2g} s and {self._save:.2g} s" if self._step or self._save else ""
            raise UserError(
                f"the time limit of {self._limit:.0f} s leaves no time for the start, a step and a checkpoint{took}; "
                f"give {math.ceil(gone + RESERVE_FACTOR * needed)} s at the least"
            )

    def clear_stop_file(self) -> None:
        """Remove the stop file, as the run stops."""
        if self._leads and self._file is not None:
            with contextlib.suppress(OSError):
                self._file.unlink(missing_ok=True)


def earlier_durations(status: Mapping[str, Any]) -> tuple[float, float]:
    """Return the seconds of a step and of a save from the status of a run; 0 if it does not have them."""
    step, save = (float(value) if isinstance(value, (int, float)) else 0.0 for value in map(status.get, DURATIONS))
    return step, save
