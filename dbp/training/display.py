"""What the user sees of a run, on rank 0 only: one bar on a terminal, one line an epoch everywhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TextIO

from dbp.cost.examples import Totals
from dbp.log import run_log
from dbp.terminal import open_terminal, terminal_of, width_of
from dbp.text import epoch_figures, figures


class Display:
    """Prints nothing unless enabled; use it in a with statement.

    Args:
        enabled: whether this rank speaks.
        kept: whether its lines go to the log, spoken or not.
        epochs: of the run.
        steps: mini-batches in an epoch.
        metrics: names of the loss's metrics.
    """

    def __init__(self, enabled: bool, kept: bool, epochs: int, steps: int, metrics: tuple[str, ...]):
        self._kept = kept
        self._enabled, self._epochs, self._steps, self._metrics = enabled, epochs, steps, metrics
        # The bar is written to the terminal itself, as some launchers pass on whole lines only; and lines
        # that end on the same terminal go the same way, or they would come before or after their turn.
        path = terminal_of(sys.stderr) if enabled else None
        self._terminal = open_terminal(path)
        self._lines: TextIO = sys.stdout
        if self._terminal is not None and terminal_of(sys.stdout) == path:
            self._lines = self._terminal
        self._bar: Any = None
        self._examples, self._since = 0, time.perf_counter()

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_bar()
        if self._terminal is not None:
            self._terminal.close()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def say(self, text: str) -> None:
        """A line."""
        if self._kept:
            run_log.tell(text)
        if self._enabled:
            self._close_bar()
            self._lines.write(text + "\n")
            self._lines.flush()

    def start_epoch(self, epoch: int, done: int) -> None:
        """An epoch (counted from 0) begins or goes on after some steps."""
        self._examples, self._since = 0, time.perf_counter()
        if self._terminal is None:
            return
        from tqdm import tqdm

        self._close_bar()
        self._bar = tqdm(
            desc=f"epoch {epoch + 1}/{self._epochs}",
            total=self._steps,
            initial=done,
            ncols=min(width_of(self._terminal) - 1, 110),
            nrows=20,  # not asked of the stream, as not every pseudo-terminal has rows
            leave=False,
            bar_format="{desc} {bar} {n_fmt}/{total_fmt} {remaining} left{postfix}",
            file=self._terminal,
        )

    def after_step(self, examples: int, totals: Totals) -> None:
        """A step on so many examples is done; totals are those of the epoch so far."""
        self._examples += examples
        if self._bar is not None and self._bar.update():  # drawn: time to prepare the next numbers
            self._bar.set_postfix_str(self._state(totals), refresh=False)

    def _state(self, totals: Totals) -> str:
        return f"{figures(totals.means(self._metrics))}  {self.rate():,.0f} examples/s"

    def rate(self) -> float:
        """Examples per second in this epoch, over all ranks."""
        return self._examples / max(1e-9, time.perf_counter() - self._since)

    def after_epoch(self, row: Mapping[str, float], rate: float) -> None:
        """An epoch is done, with this row of the history."""
        self.say(f"epoch {row['epoch']:.0f}/{self._epochs}  {epoch_figures(row)}  {rate:,.0f} examples/s")
        if skipped := int(row["skipped"]):
            steps = "1 step was" if skipped == 1 else f"{skipped:,} steps were"
            self.say(f"warning: {steps} skipped, as the cost or its gradient was not finite")
