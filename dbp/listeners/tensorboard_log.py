"""The numbers of a run as scalars for TensorBoard, in event files in tensorboard/ in the run's folder."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from dbp.files import writing_to
from dbp.listeners.appended_file import AppendedFile
from dbp.listeners.event_file import first_records, records, scalars_record, step_and_tag
from dbp.listeners.events import End, Epoch, Event, Start, Step
from dbp.text import is_digits

NAME = "tensorboard"
OWN = ".dbp"  # the ending of the names of files that this log writes; others in the folder stay as they are
BEGINNING = "events.out.tfevents."
STEPS, EPOCHS, TEST = "step/", "epoch/", "test/"  # the beginning of the tags
LEFT_OUT = ("epoch", "step")  # of an epoch's numbers, which the horizontal axis shows


class TensorBoardLog:
    """A listener that writes the numbers of steps, epochs and the test as scalars, over the steps of the run.

    A start cuts off, in the files of earlier starts, the numbers after the checkpoint that it resumes from, and begins
    a new file, which has a TensorBoard that has read them forget them.

    Args:
        folder: the run's.
        every: steps from one point to the next.
    """

    def __init__(self, folder: Path, every: int):
        self.every, self._folder = every, folder / NAME
        self._file: AppendedFile | None = None  # between Start and End
        self._head = b""  # what the file begins with, until it is written

    def __call__(self, event: Event) -> None:
        """Write the numbers of an event, if it has some."""
        if isinstance(event, Start):
            self._begin(event)
        elif isinstance(event, Step):
            self._write(event.step, STEPS, event.values)
        elif isinstance(event, Epoch):
            self._write(event.step, EPOCHS, _of_epoch(event))
        elif isinstance(event, End):
            self._write(event.step, TEST, event.values)
            self._close()

    def _begin(self, start: Start) -> None:
        """Cut the files of earlier starts, and choose a name that comes after theirs for a new one."""
        self._close()
        earlier = sorted(self._folder.glob(f"{BEGINNING}*{OWN}"))
        seconds = max([int(time.time()), *(1 + _seconds(path) for path in earlier)])
        self._file = AppendedFile(self._folder / f"{BEGINNING}{seconds:010d}.{socket.gethostname()}{OWN}")
        self._head = first_records(start.step)
        for path in earlier:
            if start.step:
                AppendedFile(path).keep(lambda file: _records(file, start))
            else:
                with writing_to(path):
                    path.unlink()

    def _write(self, step: int, beginning: str, values: Mapping[str, float]) -> None:
        if self._file is not None and values:
            tagged = {f"{beginning}{name}": value for name, value in values.items()}
            self._file.append(self._head + scalars_record(step, tagged))
            self._head = b""

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _of_epoch(event: Epoch) -> dict[str, float]:
    """Return the numbers of an epoch that have a point, by this epoch alone, so that a resumed run has the same points.

    Counts that say nothing have none: one evaluation for each step so far, no products, no skipped steps.
    """
    usual = {"evaluations": event.step, "products": 0, "skipped": 0}
    return {k: v for k, v in event.values.items() if k not in LEFT_OUT and v != usual.get(k)}


def _records(file: BinaryIO, start: Start) -> Iterator[tuple[bytes, bool]]:
    """Yield the records of a file, and whether they are from before the state that a start resumes from."""
    end = 0
    with contextlib.suppress(ValueError):
        for record, message in records(file):
            step, tag = step_and_tag(message)
            end += len(record)
            yield record, not tag or step <= (start.epoch_end if tag.startswith(EPOCHS) else start.step)
    if file.seek(0, os.SEEK_END) > end:
        yield b"", False  # what is broken


def _seconds(path: Path) -> int:
    """Return the time in the name of a file."""
    text = path.name.removeprefix(BEGINNING).partition(".")[0]
    return int(text) if is_digits(text) else 0
