"""The policy for steps whose cost or gradient is not finite: skip the step, roll back to a checkpoint, or stop.

A rollback restores the last checkpoint from before the step, and training continues with a smaller learning rate. A run
that stops reports where numbers stop being finite: in which layer, on which rank, for which examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from dbp.config.settings import ROLL_BACK, SKIP, STOP
from dbp.cost.mini_batch_cost import Evaluation, MiniBatchCost
from dbp.errors import DataError, NotFiniteError, StorageError
from dbp.optim import Step
from dbp.parallel import Stage, from_rank_0
from dbp.reading.shard import Batch
from dbp.run.run import Run
from dbp.saving.saver import RunSaver
from dbp.text import count_text
from dbp.training.not_finite_diagnosis import diagnose
from dbp.training.not_finite_report import describe, headline, is_in_data, remedy, report
from dbp.types import Array


class NotFinitePolicy:
    """The policy of a run for steps whose cost or gradient is not finite.

    Args:
        run: the run in progress.
        saver: saves the run's checkpoints.
        say: prints a line.
    """

    def __init__(self, run: Run, saver: RunSaver, say: Callable[[str], None]):
        self._run, self._saver, self._say = run, saver, say
        self._settings = run.settings.not_finite

    def begin(self) -> None:
        """Save the first weights if the run may have to roll back to them; collective."""
        if self._settings.rolls_back and self._run.progress.step == 0:
            self._saver.save()

    def handle(self, failed: Step[Evaluation], batch: Batch) -> bool:
        """Return True if the step is skipped, False if the run has rolled back to a checkpoint; collective.

        Raises:
            NotFiniteError: the run stops; the same on every rank.
        """
        reason, settings = "", self._settings
        if settings.action == SKIP:
            if self._skip(failed):
                return True
            steps = count_text(settings.skip_at_most, "step")
            were = "was" if settings.skip_at_most == 1 else "were"
            reason = f"not_finite.skip_at_most = {steps} in a row {were} skipped"
        run, progress = self._run, self._run.progress
        findings = diagnose(MiniBatchCost(run.objective, batch, progress.step), run.weights, _rows(run))
        cost = failed.evaluation.cost
        when = f"at step {progress.step + 1} (epoch {progress.epoch + 1}, cost {cost:.6g})"
        head = headline(findings, math.isfinite(cost), when)
        lines = describe(findings, run.sources.train.name)
        if settings.action == ROLL_BACK:
            if is_in_data(findings):
                reason = "a rollback does not repair the data"
            else:
                reason = self._roll_back(head, lines)
                if not reason:
                    return False
        head = f"{head}: training stops{f', as {reason}' if reason else ''}"
        lines.append(remedy(findings, failed.reason or self._advice()))
        raise NotFiniteError(report(head, lines, room=len("dbp: error: ")))

    def _skip(self, failed: Step[Evaluation]) -> bool:
        """Count a skipped step; return False if it would be one too many."""
        progress = self._run.progress
        if progress.not_finite.skipped_in_a_row >= self._settings.skip_at_most:
            return False
        progress.after_skipped_step(failed.evaluations)
        progress.length = float(failed.length)
        return True

    def _advice(self) -> str:
        if self._settings.action == STOP:
            return f"try a smaller learning_rate, clip_norm, or not_finite.action = {SKIP!r} or {ROLL_BACK!r}"
        return "try a smaller learning_rate or clip_norm"

    def _roll_back(self, head: str, lines: Sequence[str]) -> str:
        """Roll back and lower the learning rate; return what prevents it, "" if nothing does."""
        run, progress, most = self._run, self._run.progress, self._settings.at_most
        elapsed = progress.clock()  # this time is spent, wherever the run continues
        step, before = progress.step, replace(progress.not_finite)
        if before.rollbacks >= most:
            return f"the run has rolled back not_finite.at_most = {most} times"
        clock = run.comm.clock
        stage = clock.enter(Stage.CHECKPOINT)
        with run.arena.changing:  # a rank that dies meanwhile leaves a state that counts as incomplete
            path = self._restore()
            if path is not None:
                progress.not_finite.after_rollback(before, step, self._settings.factor)
                progress.elapsed = elapsed
        clock.step = progress.step
        clock.enter(stage)
        if path is None:
            return "there is no intact checkpoint from before it to roll back to"
        record = progress.not_finite
        text = (
            f"warning: {head}: rolled back to step {progress.step}, learning rate times {record.rate_factor:g} from "
            f"there on (rollback {record.rollbacks} of at most {most})"
        )
        self._say(report(text, lines if record.rollbacks == 1 else []))
        return ""

    def _restore(self) -> Path | None:
        """Restore the checkpoint to roll back to, and remove later ones; return None if there is none."""
        run, saver = self._run, self._saver
        target = run.progress.not_finite.rollback_target(run.progress.step)
        if target is None:
            return None
        try:
            path, damaged = saver.restore(target)
        except DataError:
            return None
        run.arena.synchronize(run.weights)
        from_rank_0(run.comm, self._tidy, damaged)
        return path

    def _tidy(self, damaged: tuple[Path, ...]) -> None:
        """Bring the run's folder to its state at the current step; what fails now is done by later saves."""
        folder, progress = self._saver.folder, self._run.progress
        assert folder is not None
        try:
            folder.checkpoints.prepare(damaged)
            folder.checkpoints.drop_later(progress.step)
            folder.commit_history(progress.history)
        except StorageError as error:
            self._say(f"warning: {error}")


def _rows(run: Run) -> Callable[[int], Array]:
    """Return a function from a shard's number to the rows of the data set that the shard's examples came from."""
    progress, sources = run.progress, run.sources
    loader, order = run.loader(sources.train), run.order(progress.epoch)
    positions = run.batches.positions(progress.step_in_epoch)
    return lambda number: sources.stored_rows(loader.rows(order, positions, number))
