"""The steps of a run as comma-separated values, in steps.csv; history.csv has its epochs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from dbp.listeners.appended_file import AppendedFile
from dbp.listeners.events import End, Event, Start, Step

NAME = "steps.csv"
COUNTS = ("step", "epoch", "examples", "seconds")


class CsvLog:
    """A listener that writes a line of numbers for each Step event, below a line with their names.

    A start cuts off the steps after the checkpoint that it resumes from; if it has other columns, all steps.

    Args:
        folder: the run's.
        every: steps from one line to the next.
    """

    def __init__(self, folder: Path, every: int):
        self.every, self._file = every, AppendedFile(folder / NAME)
        self._start: Start | None = None  # until the columns are known

    def __call__(self, event: Event) -> None:
        """Write the event, if it is the end of a step."""
        if isinstance(event, Start):
            self._start = event
        elif isinstance(event, Step):
            self._write(event)
        elif isinstance(event, End):
            self._file.close()

    def _write(self, event: Step) -> None:
        header = line_of([*COUNTS, *event.values])
        if self._start is not None:
            self._begin(header, self._start.step)
            self._start = None
        counts = [getattr(event, name) for name in COUNTS]
        self._file.append(line_of([f"{number:.10g}" for number in (*counts, *event.values.values())]))

    def _begin(self, header: bytes, step: int) -> None:
        """Keep the steps up to that of a start, and write the header if there are none."""

        def records(file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
            has_header = file.readline() == header
            yield header, has_header and step > 0
            for line in file:
                yield line, has_header and line.endswith(b"\n") and 0 < _step_of(line) <= step

        self._file.keep(records)
        if not self._file.path.exists() or not self._file.path.stat().st_size:
            self._file.append(header)


def line_of(cells: Iterable[str]) -> bytes:
    """Return cells as a line."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def _step_of(line: bytes) -> int:
    """Return the step of a line; 0 if it is none."""
    step = line.partition(b",")[0]
    return int(step) if step.isdigit() else 0
