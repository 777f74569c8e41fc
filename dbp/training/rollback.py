"""What a run does where cost or gradient are not finite and the step is not skipped: it goes back, or it stops.

It goes back to the last checkpoint from before that step, with a smaller learning rate. When it stops, it tells where
numbers stop being finite: at which layer, on which rank, for which examples.
"""

from __future__ import annotations

import copy
import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path

from dbp.cost.objective import Evaluation
from dbp.errors import DataError, NotFiniteError, StorageError
from dbp.optim import GO_BACK, SKIP, STOP, FirstOrder, Outcome, Step
from dbp.parallel import from_rank_0
from dbp.parallel.ranks import clock as stages
from dbp.run.state import Run
from dbp.saving.saver import Keeper
from dbp.training.diagnosis import DATA, MOMENTS, SHOWN, Found, diagnose
from dbp.types import Array

Say = Callable[[str], None]
WIDTH = 80  # columns of a report
MENDS_NO_DATA = "going back mends no data"
RANKS = 3  # that are named
WORDS = ("first not finite", "then", "then")  # of the things that are told


class Trouble:
    """What a run does where numbers are not finite.

    Args:
        run: in progress.
        keeper: of its checkpoints.
        say: what a line is said with.
    """

    def __init__(self, run: Run, keeper: Keeper, say: Say):
        self._run, self._keeper, self._say = run, keeper, say

    def meet(self, taken: Step[Evaluation]) -> None:
        """Go back, if the optimizer asks for it and there is a way; collective.

        Raises:
            NotFiniteError: the run stops; the same on every rank.
        """
        run = self._run
        found = diagnose(run.objective, run.weights, _rows(run))
        head = _head(run, taken, found)
        lines = places(found, run.sources.train.name)
        why = taken.reason if isinstance(run.settings.optimizer, FirstOrder) else ""
        if taken.outcome is Outcome.GOES_BACK:
            why = MENDS_NO_DATA if _in_data(found) else self._go_back(head, lines)
            if not why:
                return
        head = f"{head}: training stops{f', as {why}' if why else ''}"
        raise NotFiniteError(report(head, [*lines, _remedy(run, taken, found)], room=len("dbp: error: ")))

    def _go_back(self, head: str, lines: Sequence[str]) -> str:
        """Go back, with a smaller learning rate; gives what is in the way, if anything is."""
        self._run.progress.clock()  # the time up to here is spent, whatever comes of it
        method, later = self._run.settings.optimizer, copy.copy(self._run.progress)
        assert isinstance(method, FirstOrder)
        times, most = later.gone_back + 1, method.go_back_at_most
        if times > most:
            return f"the run has gone back go_back_at_most = {most} times"
        clock, progress = self._run.comm.stages, self._run.progress
        before = clock.enter(stages.CHECKPOINT)
        with self._run.arena.changes:  # so that no rank takes a half for a whole if another dies meanwhile
            path = self._restore()
            if path is not None:
                progress.after_going_back(later, method.go_back_factor)
        clock.step = progress.step
        clock.enter(before)
        if path is None:
            return "there is no whole checkpoint from before it to go back to"
        text = (
            f"warning: {head}: back to step {progress.step}, learning rate times {progress.rate_factor:g} from there on"
        )
        self._say(report(f"{text} ({times} of at most {most} times)", lines if times == 1 else []))
        return ""

    def _restore(self) -> Path | None:
        """Bring back the last checkpoint from before now, and remove later ones; None if there is none."""
        run, keeper = self._run, self._keeper
        until = run.progress.way_back_from_here()
        if until is None:
            return None
        try:
            path, damaged = keeper.bring_back(until)
        except DataError:
            return None
        run.arena.settle(run.weights)
        from_rank_0(run.comm, self._tidy, damaged)
        return path

    def _tidy(self, damaged: tuple[Path, ...]) -> None:
        """The folder as it was at the step gone back to; what a disk does not allow now, later saves will do."""
        folder, progress = self._keeper.folder, self._run.progress
        assert folder is not None
        try:
            folder.checkpoints.prepare(damaged)
            folder.checkpoints.drop_later(progress.step, self._run.best_step)
            folder.commit_history(progress.history)
        except StorageError as error:
            self._say(f"warning: {error}")


def _rows(run: Run) -> Callable[[int], Array]:
    """Gives the rows of the data set that a shard of the current mini-batch holds."""
    progress, sources = run.progress, run.sources
    loader, order = run.loader(sources.train), run.order(progress.epoch)
    positions = run.batches.positions(progress.step_in_epoch)
    return lambda number: sources.stored_rows(loader.rows(order, positions, number))


# --- in words -------------------------------------------------------------------------------------------


def _head(run: Run, taken: Step[Evaluation], found: Sequence[Found]) -> str:
    """What has happened, and when."""
    progress, cost = run.progress, taken.evaluation.cost
    if not math.isfinite(cost):
        what = "the cost is"
    elif found and found[0].stage == MOMENTS:
        what = "running moments are"
    else:  # also of other weights, which were tried
        what = "the cost or its gradient is"
    return f"{what} not finite at step {progress.step + 1} (epoch {progress.epoch + 1}, cost {cost:.6g})"


def places(found: Sequence[Found], data: str) -> list[str]:
    """What is not finite, the first first; below each, ranks, shards and examples.

    Args:
        found: in order.
        data: the name of the data set.
    """
    if not found:
        return ["at these weights cost and gradient are finite, but not where the next step leads"]
    groups = [list(group) for _, group in groupby(found, key=lambda one: (one.stage, one.place, one.what))]
    lines = []
    for word, group in zip(WORDS, groups, strict=False):
        lines += [f"{word}: {group[0].what}", f"  {_where(group, data)}"]
    left = len(groups) - len(WORDS)
    return [*lines, f"and {left} more"] if left > 0 else lines


def _where(group: Sequence[Found], data: str) -> str:
    """Who has found one thing, and for which examples."""
    told = [_some(dict.fromkeys(f"rank {one.rank} on {one.host}" for one in group), RANKS)]
    shards = [str(one.shard) for one in group if one.shard is not None]
    if shards:
        told.append(f"shard{'s' * (len(shards) > 1)} {_some(shards, SHOWN)}")
    if wrong := sum(one.wrong for one in group):
        rows = sorted(row for one in group for row in one.rows)
        word = f"{wrong:,} of {sum(one.examples for one in group):,} examples: row{'s' * (wrong > 1)}"
        told.append(f"{word} {_some(map(str, rows), SHOWN, wrong)} of {data}")
    return "; ".join(told)


def _some(texts: Iterable[str], most: int, count: int = 0) -> str:
    """The first of some texts, and how many more there are."""
    texts = list(texts)
    left = max(count, len(texts)) - len(texts[:most])
    return ", ".join(texts[:most]) + (f" and {left:,} more" if left > 0 else "")


def _in_data(found: Sequence[Found]) -> bool:
    return any(one.stage == DATA for one in found)


def _remedy(run: Run, taken: Step[Evaluation], found: Sequence[Found]) -> str:
    """What to do, in a line."""
    method = run.settings.optimizer
    if _in_data(found):
        return "mend these examples, or leave them out"
    if not isinstance(method, FirstOrder):
        return taken.reason
    if method.when_not_finite == STOP:
        return f"try a smaller learning_rate, clip_norm, when_not_finite = {SKIP!r} or {GO_BACK!r}"
    return "try a smaller learning_rate or clip_norm"


def report(head: str, lines: Iterable[str], room: int = 0) -> str:
    """Lines that fit a terminal.

    Args:
        head: the first.
        lines: those below it, which may begin with spaces.
        room: that is left before the first line.
    """
    told = [_fitted(head, room, 2).lstrip()]
    for line in lines:
        depth = 2 + len(line) - len(line.lstrip())
        told.append(_fitted(line.lstrip(), depth, depth + 2))
    return "\n".join(told)


def _fitted(line: str, first: int, others: int) -> str:
    """A line cut where it is too long, but not within a word; indented by so many spaces."""
    return textwrap.fill(
        line,
        WIDTH,
        initial_indent=" " * first,
        subsequent_indent=" " * others,
        break_long_words=False,
        break_on_hyphens=False,
    )
