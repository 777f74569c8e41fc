"""What a run prints, on rank 0: an introduction, a progress bar on terminals, and a table with a line per epoch."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from dbp.cost.mini_batch import ExampleSums
from dbp.log import run_log
from dbp.parallel import HOW_TO_GET_MPI, Node, placement_warnings
from dbp.run.run import Run
from dbp.run.sources import warnings_of
from dbp.terminal import columns_of, open_terminal, terminal_of, width_of, write_line
from dbp.text import count_text, duration, figures
from dbp.version import VERSION

if TYPE_CHECKING:
    from dbp.training.epoch_table import EpochTable


MAX_WIDTH = 110  # columns of the bar


class Display:
    """The lines and the progress bar of a run, as a context manager.

    Args:
        enabled: whether this rank prints.
        logged: whether this rank writes its lines to the run's log, printed or not.
        epochs: epochs of the run.
        steps: mini-batches of an epoch.
        best_by: the column of the history that decides which epoch is the best.
    """

    def __init__(self, enabled: bool, logged: bool, epochs: int, steps: int, best_by: str):
        self._logged = logged
        self._enabled, self._epochs, self._steps, self._best_by = enabled, epochs, steps, best_by
        # The bar goes to the terminal itself, as some launchers forward whole lines only. Lines for the same terminal
        # take the same way, so that they keep their order.
        path = terminal_of(sys.stderr) if enabled else None
        self._terminal = open_terminal(path)
        self._lines: TextIO | None = sys.stdout
        if self._terminal is not None and terminal_of(sys.stdout) == path:
            self._lines = self._terminal
        self._columns = columns_of(sys.stdout) if enabled else None
        self._bar: Any = None
        self._table: EpochTable | None = None
        self._examples, self._since = 0, time.perf_counter()
        self._begun, self._taken, self._position = self._since, 0, 0  # steps since this start, and of the whole run

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_bar()
        if self._terminal is not None:
            with contextlib.suppress(OSError):
                self._terminal.close()

    def _close_bar(self) -> None:
        with self._shown_while_possible():
            if self._bar is not None:
                self._bar.close()
                self._bar = None

    @contextlib.contextmanager
    def _shown_while_possible(self) -> Iterator[None]:
        """Leave the bar out from now on if the terminal is closed."""
        try:
            yield
        except OSError:
            if self._bar is not None:
                self._bar.disable = True
            self._bar = self._terminal = None

    def say(self, text: str) -> None:
        """Print a line."""
        if self._logged:
            run_log.write(text)
        if self._enabled:
            self._close_bar()
            write_line(self._lines, text, self._columns)

    def start_epoch(self, epoch: int, done: int) -> None:
        """Start the bar of an epoch.

        Args:
            epoch: its number, counted from 0.
            done: steps of it that are done already.
        """
        self._examples, self._since = 0, time.perf_counter()
        self._position = epoch * self._steps + done
        if not self._taken:
            self._begun = self._since
        if self._terminal is None:
            return
        from tqdm import tqdm

        self._close_bar()
        with self._shown_while_possible():
            self._bar = tqdm(
                desc=f"epoch {epoch + 1}/{self._epochs}",
                total=self._steps,
                initial=done,
                ncols=min(width_of(self._terminal) - 1, MAX_WIDTH),
                nrows=20,  # a constant, as some pseudo-terminals report no rows
                leave=False,
                bar_format="{desc} {bar} {n_fmt}/{total_fmt}{postfix}",
                file=self._terminal,
            )

    def after_step(self, examples: int, totals: ExampleSums) -> None:
        """Advance the bar by a step.

        Args:
            examples: examples of the step.
            totals: sums over the epoch so far.
        """
        self._examples += examples
        self._taken += 1
        self._position += 1
        with self._shown_while_possible():
            if self._bar is not None and self._bar.update():  # True if the bar was redrawn
                self._bar.set_postfix_str(self._postfix(totals), refresh=False)

    def _postfix(self, totals: ExampleSums) -> str:
        left = self._seconds_left()
        time_left = "" if left is None else f"  {duration(left)} left"
        return f"{figures({'cost': totals.cost})}  {self.rate():,.0f} examples/s{time_left}"

    def rate(self) -> float:
        """Return the examples per second of this epoch, over all ranks."""
        return self._examples / max(1e-9, time.perf_counter() - self._since)

    def _seconds_left(self) -> float | None:
        """Return the seconds until the end of the run at the speed since this start; None if nothing is left."""
        left = self._epochs * self._steps - self._position
        return (time.perf_counter() - self._begun) / self._taken * left if self._taken and left > 0 else None

    def after_epoch(self, row: Mapping[str, float], is_best: bool, rate: float) -> None:
        """Print the row of the history that an epoch has added.

        Args:
            row: the row.
            is_best: whether the epoch is the best so far.
            rate: its examples per second.
        """
        if not (self._enabled or self._logged):
            return
        if self._table is None:
            from dbp.training.epoch_table import WIDTH, EpochTable  # which other ranks than 0 do not need

            self._table = EpochTable(self._epochs, list(row), self._best_by, self._columns or WIDTH)
            if hidden := len(self._table.hidden):
                self.say(f"{count_text(hidden, 'more column')} of the history: kept, but they do not fit here")
            self.say("\n".join(self._table.head()))
        self.say(self._table.row(row, is_best, rate, self._seconds_left()))
        if skipped := int(row["skipped"]):
            steps = "1 step was" if skipped == 1 else f"{skipped:,} steps were"
            self.say(f"warning: {steps} skipped, as the cost or its gradient was not finite")


def introduction(run: Run, nodes: Sequence[Node], job_lines: Sequence[str]) -> list[str]:
    """Return lines on what a run does and where, with warnings about ranks and nodes.

    Args:
        run: the run, before its first step.
        nodes: the nodes that its ranks run on.
        job_lines: lines about the batch job.
    """
    comm, settings, shards = run.comm, run.settings, run.shards
    ranks = count_text(comm.size, "rank")
    ranks += f" on {comm.nodes.count} nodes" * (comm.nodes.count > 1)
    lines = [
        f"dbp {VERSION}: {ranks} ({comm.description}), {count_text(shards.count, 'shard')}",
        *job_lines,
        f"{settings.threads} BLAS thread{'s' * (settings.thread_count > 1)} per rank, {run.kernels['blas']}",
    ]
    if settings.out is not None:
        lines.append(f"folder: {Path(settings.out).resolve()}")
    if "no MPI library" in comm.description:
        lines.append(f"no MPI library was found, so this runs as one rank; {HOW_TO_GET_MPI}")
    lines.append(f"{_parameters_text(run)} ({settings.dtype}); examples: {run.sources.describe()}")
    lines += [f"note: {note}" for note in run.notes]
    if not run.sampler.is_plain:
        lines.append(str(run.sampler))
    if run.standardization.columns:
        lines.append(str(run.standardization))
    lines += [f"warning: {text}" for data in run.sources.files.values() for text in warnings_of(data)]
    if run.arena.lacks_memory:
        lines.append(f"warning: every rank keeps weights and optimizer state of its own, as {comm.node.refusal}")
    complaints = [*_idleness(run), *run.warnings, *placement_warnings(nodes, settings.thread_count)]
    return [*lines, *(f"warning: {complaint}" for complaint in complaints)]


def _idleness(run: Run) -> list[str]:
    """Return warnings of ranks without a shard, and of mini-batches that leave shards empty."""
    shards, warnings = run.shards, []
    if idle := shards.idle_ranks:
        names = f"rank {idle[0]} has" if len(idle) == 1 else f"ranks {', '.join(map(str, idle))} have"
        warnings.append(
            f"{names} nothing to do, as there {'is' if shards.count == 1 else 'are'} only "
            f"{count_text(shards.count, 'shard')} for {count_text(run.comm.size, 'rank')}; start with fewer ranks, or "
            "start over with more shards"
        )
    if (size := run.batches.batch_size) < shards.count:
        warnings.append(
            f"a mini-batch of {count_text(size, 'example')} leaves {shards.count - size} of {shards.count} shards "
            "empty; start over with a larger batch_size or fewer shards"
        )
    return warnings


def _parameters_text(run: Run) -> str:
    """Return how many parameters are trained, and how many are frozen."""
    trained = run.layout.size
    if run.frozen is None:
        return count_text(trained, "parameter")
    return f"{trained:,} of {count_text(trained + run.frozen.arena.size, 'parameter')}, the others frozen"
