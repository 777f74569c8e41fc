"""What the user sees of a run, on rank 0 only: one bar on a terminal, one line an epoch everywhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from dbp.objective import Totals

# Set by `dbp run`, which stands between its ranks and the terminal: the width of the latter, or 0.
TERMINAL_WIDTH = "DBP_TERMINAL_WIDTH"
LAUNCHERS = ("mpirun", "mpiexec", "prterun", "orterun", "mpiexec.hydra", "srun")


def _launcher_shows(descriptor: int) -> bool | None:
    """Whether what a rank writes ends on a terminal: whether its launcher writes to one (Linux).

    A rank itself cannot tell: it writes to a pipe, or to a pseudo-terminal that leads into a file.
    """
    process = os.getppid()
    try:
        while process > 1:
            folder = Path(f"/proc/{process}")
            if (folder / "comm").read_text().strip() in LAUNCHERS:
                return (folder / "fd" / str(descriptor)).resolve().as_posix().startswith(("/dev/pts/", "/dev/tty"))
            process = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return None


def terminal_width(stream: TextIO) -> int:
    """The width of the terminal on which a stream ends; 0 if it ends elsewhere."""
    if TERMINAL_WIDTH in os.environ:
        return int(os.environ[TERMINAL_WIDTH])
    shown = _launcher_shows(stream.fileno())
    if not (stream.isatty() if shown is None else shown):
        return 0
    for source in ("/dev/tty", None):
        try:
            descriptor = os.open(source, os.O_RDONLY) if source else stream.fileno()
            return os.get_terminal_size(descriptor).columns
        except OSError:
            continue
    return 80


def duration(seconds: float) -> str:
    """Seconds in words: 7.2 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def figures(values: Mapping[str, float]) -> str:
    """Named numbers in one line."""
    return "  ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in values.items())


class Display:
    """Prints nothing unless enabled; use it in a with statement.

    Args:
        enabled: whether this rank speaks.
        epochs: of the run.
        steps: mini-batches in an epoch.
        metrics: names of the loss's metrics.
    """

    def __init__(self, enabled: bool, epochs: int, steps: int, metrics: tuple[str, ...]):
        self._enabled, self._epochs, self._steps, self._metrics = enabled, epochs, steps, metrics
        self._width = terminal_width(sys.stderr) if enabled else 0
        # On one terminal the lines share the bar's stream, or they would overtake each other.
        on_terminal = bool(self._width) and terminal_width(sys.stdout) > 0
        self._lines: TextIO = sys.stderr if on_terminal else sys.stdout
        self._bar: Any = None
        self._examples, self._since = 0, time.perf_counter()

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_bar()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def say(self, text: str) -> None:
        """A line."""
        if self._enabled:
            self._close_bar()
            self._lines.write(text + "\n")
            self._lines.flush()

    def start_epoch(self, epoch: int, done: int) -> None:
        """An epoch (counted from 0) begins or goes on after some steps."""
        self._examples, self._since = 0, time.perf_counter()
        if not self._width:
            return
        from tqdm import tqdm

        self._close_bar()
        self._bar = tqdm(
            desc=f"epoch {epoch + 1}/{self._epochs}",
            total=self._steps,
            initial=done,
            ncols=min(self._width - 1, 110),
            leave=False,
            bar_format="{desc} {bar} {n_fmt}/{total_fmt} {remaining} left{postfix}",
            file=sys.stderr,
        )

    def after_step(self, examples: int, totals: Totals) -> None:
        """A step on so many examples is done; totals are those of the epoch so far."""
        self._examples += examples
        if self._bar is not None and self._bar.update():  # drawn: time to prepare the next numbers
            self._bar.set_postfix_str(self._state(totals), refresh=False)

    def _state(self, totals: Totals) -> str:
        return f"{figures(totals.means(self._metrics))}  {self._rate():,.0f} examples/s"

    def _rate(self) -> float:
        return self._examples / max(1e-9, time.perf_counter() - self._since)

    def rate(self) -> float:
        """Examples per second in this epoch, over all ranks."""
        return self._rate()

    def after_epoch(self, row: Mapping[str, float], rate: float) -> None:
        """An epoch is done, with this row of the history."""
        shown = {k: v for k, v in row.items() if k not in ("epoch", "step", "learning_rate", "seconds")}
        self.say(f"epoch {row['epoch']:.0f}/{self._epochs}  {figures(shown)}  {rate:,.0f} examples/s")
