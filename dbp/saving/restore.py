"""Restore a run: find the newest intact checkpoint of its folder, check it, and put it into the run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from dbp.checkpoint import BEST_GROUP
from dbp.errors import PassStoppedError, UserError
from dbp.parallel import agree, from_rank_0, no_request
from dbp.run.progress import STOPPED_EARLY
from dbp.run.run import WEIGHTS, Run
from dbp.run.snapshot import Snapshot, group_of, moments_for_inference, moments_of, residual_names
from dbp.run.sources import stop_check
from dbp.saving.checkpoint_info import CheckpointInfo, check_arrays, no_whole_checkpoint
from dbp.saving.comparison import Comparison, check_same_run, jump_of_rate, may_go_on
from dbp.saving.folder import RunFolder
from dbp.text import count_text
from dbp.types import Array


class Restorer:
    """The part of a run that restores its state from its folder; its methods are collective.

    Args:
        run: the run.
        folder: the folder with its checkpoints.
        say: prints a line.
    """

    def __init__(self, run: Run, folder: RunFolder, say: Callable[[str], None]):
        self._run, self._comm, self._folder, self._say = run, run.comm, folder, say

    def resume(self, info: CheckpointInfo, accept: Sequence[str]) -> tuple[Path, ...]:
        """Restore the newest intact checkpoint and say so; return the files that were passed over.

        Args:
            info: what was found of that checkpoint at the start.
            accept: keys of settings that may differ from it.

        Raises:
            UserError: it belongs to another run.
            DataError: no checkpoint is intact.
        """
        run, progress, say = self._run, self._run.progress, self._say
        comparison = Comparison.between(
            info, run.settings, run.shards.count, run.digests, run.meaning, run.sampler.description
        )
        comparison = comparison.with_jump(jump_of_rate(info, run.settings, run.batches.steps))
        agree(self._comm, check_same_run, info, comparison, accept, self._refuse(info) is None)
        agree(self._comm, self._check_arrays, info)
        path, passed_over = self.restore(stops=stop_check(self._comm))
        self._reopen(info, comparison)
        changes = [*comparison.allowed.values(), *comparison.forbidden.values(), *self._other_ranks(info)]
        if progress.finished:
            how = f"{progress.outcome}; " if progress.outcome else ""
            raised = "early_stopping.patience or epochs" if how.startswith(STOPPED_EARLY) else "epochs"
            say(f"{path} is finished: {how}raise {raised} to continue it, or start over with --fresh")
        else:
            say(f"resumed from {path} at epoch {progress.epoch + 1}, step {progress.step}")
            if run.settings.optimizer.resume_note:
                say(f"note: {run.settings.optimizer.resume_note}")
            if forgotten := self._forgotten_best(info):
                say(f"note: {forgotten}")
        if changes:
            say(f"note: what differs from the run so far: {'; '.join(changes)}")
        if kernels := self._other_kernels(info):
            say(f"warning: from here on, bits may differ from the run so far, which computed with {kernels}")
        return passed_over

    def _reopen(self, info: CheckpointInfo, comparison: Comparison) -> None:
        """Let a run that had ended before its last epoch go on, if the user has changed what ended it."""
        run, progress = self._run, self._run.progress
        if not progress.outcome or progress.epoch >= run.settings.epochs:
            return
        stays = progress.outcome.startswith(STOPPED_EARLY) and run.settings.epochs == info.settings["epochs"]
        if may_go_on(info, comparison, run.settings) and not (stays and run.is_stale):
            self._say(f"note: the run had ended ({progress.outcome}), and goes on")
            progress.outcome, progress.finished = "", False

    def _forgotten_best(self, info: CheckpointInfo) -> str:
        """Return why the best epoch of a checkpoint counts no more; "" if it counts, or if the run keeps none."""
        best, progress = info.progress["best_epoch"], self._run.progress
        if self._run.best is None or not best or progress.best_epoch:
            return ""
        was, now = (str(column).replace("_", " ") for column in (info.progress.get("best_by"), progress.best_by))
        if was != now:
            return f"epoch {best} was the best by {was}; by {now} the best one counts from here on"
        return f"the weights of epoch {best}, the best so far, were not kept; from here on the best are"

    def _other_kernels(self, info: CheckpointInfo) -> str:
        """Return what the checkpoint's run computed with, where that differs from this one."""
        before = {name: info.provenance.get(name) for name in self._run.kernels}
        return ", ".join(
            f"{name} {before[name]} (now {now})" for name, now in self._run.kernels.items() if before[name] != now
        )

    def _other_ranks(self, info: CheckpointInfo) -> list[str]:
        was = info.provenance.get("ranks")
        return [] if was == self._comm.size else [f"ranks: {was} in the checkpoint, {self._comm.size} now"]

    def restore(
        self, until: int | None = None, stops: Callable[[], bool] = no_request
    ) -> tuple[Path, tuple[Path, ...]]:
        """Restore the newest intact checkpoint; return its path, and the files that cannot be used.

        Each file that cannot be used is reported with the reason.

        Args:
            until: a step; checkpoints from after it are ignored.
            stops: returns True if rank 0 is to read no further, as it has been asked to stop.

        Raises:
            DataError: there is no intact checkpoint of this run.
            PassStoppedError: rank 0 was asked to stop while it read.
        """
        snapshot = Snapshot()

        def check() -> None:
            if stops():
                raise PassStoppedError

        def find(stack: contextlib.ExitStack) -> tuple[Path, dict[Path, str], int]:
            """Open the checkpoint on rank 0, which alone reads it."""
            nonlocal snapshot
            checkpoints, refuse = self._folder.checkpoints, lambda found: self._refuse(CheckpointInfo.of(found))
            newest = stack.enter_context(checkpoints.newest(refuse, until=until, check=check))
            if newest.found is None:
                raise no_whole_checkpoint(self._run.settings, list(newest.passed_over.values()))
            snapshot = Snapshot.from_checkpoint(newest.found, self._run.layout, self._run.objective.frozen)
            return newest.found.path, newest.passed_over, len(snapshot.residuals)

        with contextlib.ExitStack() as stack:
            path, passed_over, residuals = from_rank_0(self._comm, find, stack)
            snapshot.put_into(self._run)
        self._say_residuals(residuals)
        for text in passed_over.values():
            self._say(f"warning: {text}; an older one is used, and this one kept with another name")
        return path, tuple(passed_over)

    def _say_residuals(self, stored: int) -> None:
        """Say what happens to error feedback of another number of nodes."""
        count = self._run.objective.gradients.residual_count
        if stored not in (0, count):
            where = f"is shared out to {count}" if count > 1 else "is added to the next gradient"
            self._say(f"note: what {count_text(stored, 'node')} had not sent of their gradients {where}")

    def _check_arrays(self, info: CheckpointInfo) -> None:
        if reason := self._refuse(info):
            raise UserError(
                f"checkpoint {info.path} is of another run ({reason}); start over with --fresh, or choose another "
                "folder with --out"
            )

    def _refuse(self, info: CheckpointInfo) -> str | None:
        """Return why a checkpoint is not one of this run, before its arrays are read; None if it is."""
        run, layout = self._run, self._run.layout
        if reason := self._other_history(info):
            return reason
        arrays: dict[str, Array] = {}
        for group, moments in moments_of(run).items():
            arrays |= {f"{group}/{name}": array for name, array in moments.items()}
        parameters = layout.views(run.weights)
        arrays |= {f"{group_of(WEIGHTS)}/{name}": array for name, array in run.objective.frozen.items()}
        if any(name.startswith(f"{BEST_GROUP}/") for name in info.arrays):
            best = parameters | moments_for_inference(run)
            arrays |= {f"{BEST_GROUP}/{name}": array for name, array in best.items()}
        for vector in run.vectors:
            arrays |= {f"{group_of(vector)}/{name}": array for name, array in parameters.items()}
        for vector in residual_names(info.arrays, layout):
            arrays |= {f"{group_of(vector)}/{name}": parameters[name] for name in layout.dense.shapes}
        return check_arrays(info, {name: (array.dtype.str, array.shape) for name, array in arrays.items()})

    def _other_history(self, info: CheckpointInfo) -> str:
        """Return why the history of a checkpoint cannot go on in this run; "" if it can."""
        columns = [name for name in info.arrays if name.startswith("history/")]
        had = any(name.startswith("history/validation_") for name in columns)
        has = self._run.sources.validation is not None
        if not columns or had == has:
            return ""
        verb, count = ("has", "no") if had else ("lacks", "some")
        return f"it {verb} the costs of validation, but this run has {count} data for it"
