"""A run's state to its folder: how it begins, is saved beside the training, stops and ends."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

from dbp.checkpoint import StoredCheckpoint, Writer
from dbp.config import toml
from dbp.errors import NOT_FINISHED, Stopped, StorageError, UserError
from dbp.log import now, run_log
from dbp.parallel import Copies, RankLostError, Residuals, all_leave, from_rank_0, processor
from dbp.parallel.ranks import clock as stages
from dbp.run.provenance import process, versions
from dbp.run.snapshot import Snapshot
from dbp.run.state import Run
from dbp.saving.folder import RunFolder
from dbp.saving.restore import Restorer
from dbp.saving.resume import CheckpointInfo, Start
from dbp.saving.stopping import Stopping

Say = Callable[[str], None]
TRIES, PAUSE = 3, 2.0  # at the last checkpoint, and seconds between them
PATIENCE = 2.0  # seconds that a failing rank 0 waits for what is being written


class RunSaver:
    """Keeps what a run has come to, in a with statement; all methods but after_step are collective.

    Args:
        run: whose state it keeps.
        start: how the run is to begin.
        earlier: the checkpoint that it goes on from, if there is one.
        memory: the state that it goes on from, if ranks have died and others live.
        say: what a line is said with.
    """

    def __init__(self, run: Run, start: Start, info: CheckpointInfo | None, snapshot: Snapshot | None, say: Say):
        self._run, self._start, self._info, self._snapshot, self._say = run, start, info, snapshot, say
        settings, self._comm = run.settings, run.comm
        self.folder = None if settings.out is None else RunFolder(Path(settings.out), settings.checkpoint)
        stop_file = None if self.folder is None else self.folder.stop_file
        self._stopping = Stopping(self._comm.rank == 0, stop_file, start.limit)
        self._writer, self._seconds = Writer(), 0.0
        self._failed = self._reason = ""  # of the last checkpoint that could not be written
        self._beside = self._told = ""  # what has failed beside the last checkpoint, and what was said of it
        self._saved = -1  # the step that was saved last
        self._copies: Copies | None = None
        self._residuals: Residuals | None = None  # error feedback, as it was copied
        if self.folder is not None:
            self._copies = Copies(run.arena, len(run.vectors))

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self._leave()
            raise
        self._comm.asks = self._stopping.asks
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        del self._comm.asks
        if self.folder is not None and self._comm.rank == 0:
            self._writer.end(None if all_leave(error) else PATIENCE)
            if error is not None and not isinstance(error, (Stopped, RankLostError)):
                with contextlib.suppress(StorageError):
                    code = error.exit_code if isinstance(error, UserError) else 1
                    self.folder.tell("failed", message=str(error) or type(error).__name__, code=code)
        self._leave()
        if error is None or isinstance(error, Stopped):  # else there is more to tell
            run_log.close()

    def _leave(self) -> None:
        if self.folder is not None:
            self.folder.unlock()
        if self._copies is not None:
            self._copies.free()

    # --- the beginning ----------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Go on from the newest whole checkpoint if there is one, else start."""
        run, comm = self._run, self._comm
        assert run.restored == (self._snapshot is not None or self._info is not None), "else it begins with zeros"
        from_rank_0(comm, self._lock)
        damaged: tuple[Path, ...] = ()
        if self._snapshot is not None:
            self._snapshot.put_into(run)
            self._say(f"goes on at epoch {run.progress.epoch + 1}, step {run.progress.step}, which is whole in memory")
        elif self._start.fresh:
            from_rank_0(comm, self._set_aside)
        elif self._info is not None and self.folder is not None:
            damaged = Restorer(run, self.folder, self._say).resume(self._info, self._start.accept)
        run.arena.synchronize(run.weights)
        from_rank_0(comm, self._prepare, damaged)
        if self.folder is not None:
            run_log.open(self.folder.path, comm.rank, comm.size, process())

    def _lock(self) -> None:
        self._stopping.check({} if self.folder is None or self._info is None else self.folder.status())
        if self.folder is not None:
            self.folder.lock()

    def _set_aside(self) -> None:
        if self.folder is None:
            return
        if self._start.overwrite:
            count = self.folder.checkpoints.delete()
            self._say(f"deleted {count} checkpoints of an earlier run in {self.folder.checkpoints.path}")
        elif (aside := self.folder.checkpoints.set_aside()) is not None:
            self._say(f"the checkpoints of an earlier run were moved to {aside}")

    def _prepare(self, damaged: tuple[Path, ...]) -> None:
        if self.folder is not None:
            self.folder.checkpoints.prepare(damaged)
            self.folder.commit("config.toml", self._config)
            step, most = self._run.progress.step, self._run.settings.watch.most_starts
            self.folder.begin(step, most, self._start.retry or self._start.fresh)
            self.folder.tell("running", **self._status())

    def _status(self) -> dict[str, Any]:
        progress, settings = self._run.progress, self._run.settings
        return {
            "epoch": progress.epoch,
            "epochs": settings.epochs,
            "step": progress.step,
            "steps": settings.epochs * self._run.batches.steps,
            "ranks": self._comm.size,
            "cost": progress.cost,
            "seconds": round(progress.clock(), 3),
            **self._stopping.seconds,
        }

    # --- saving -----------------------------------------------------------------------------------------

    def save(self) -> None:
        """Take a copy of the run's state, and begin to write it; what was begun before is waited for.

        Nothing is done if the state after this step is saved already.
        """
        run = self._run
        if self._saved == run.progress.step:
            return
        before = self._comm.stages.enter(stages.CHECKPOINT)
        if run.settings.watch.compare_every_steps:
            run.compare_nodes()
        if self._copies is not None:
            self.settle()
            self._copies.take(list(run.vectors.values()))
            self._residuals = run.objective.gradients.snapshot()
            self._comm.confirm()  # that all have copied what is theirs
            self._saved = run.progress.step
            if self._comm.rank == 0:
                kept = run.best_step, run.rollback_targets
                self._writer.start(partial(self._write, self.checkpoint(), *kept, self._status()))
        self._comm.stages.enter(before)

    def save_now(self) -> str:
        """Save, and wait for it; gives what prevented it, if anything did."""
        self.save()
        before = self._comm.stages.enter(stages.CHECKPOINT)
        failed = self.settle()
        self._comm.stages.enter(before)
        return failed

    def bring_back(self, until: int) -> tuple[Path, tuple[Path, ...]]:
        """Bring back the state in the newest whole checkpoint that is not from after a step; see Restorer.restore()."""
        assert self.folder is not None
        self.settle()
        self._saved = -1  # what is saved at a step that was saved before is another state
        return Restorer(self._run, self.folder, self._say).restore(until)

    def settle(self) -> str:
        """Wait until what was begun is written; gives what prevented the last writing, if anything did."""
        failed = str(from_rank_0(self._comm, self._wait)) if self.folder is not None else ""
        if failed:  # on all ranks, as all of them must agree on whether the next one is needed
            self._saved = -1
        return failed

    def _wait(self) -> str:
        failure, begun = self._writer.wait()
        if failure is not None:
            if not self._failed or failure.reason != self._reason:
                self._say(f"warning: {failure}; training goes on, and the next checkpoint is tried")
            self._failed, self._reason = str(failure), failure.reason
        elif begun:
            if self._failed:
                self._say("checkpoints are written again")
            self._failed = ""
            self._warn(self._beside)
            self._stopping.after_save(self._seconds)
        return self._failed

    def _write(
        self, checkpoint: StoredCheckpoint, best: int | None, others: set[int], status: Mapping[str, Any]
    ) -> None:
        """In a thread of its own."""
        assert self.folder is not None
        began, step = time.monotonic(), int(checkpoint.progress["step"])
        path = self.folder.checkpoints.save(checkpoint, step)
        try:
            self.folder.checkpoints.tidy(path, best, others)
            self.folder.commit_history({name: column.tolist() for name, column in checkpoint.history.items()})
            self.folder.tell("running", checkpoint=path.name, **status)
            self._beside = ""
        except StorageError as error:  # the state itself is saved
            self._beside = str(error)
        self._seconds = time.monotonic() - began

    def _warn(self, failed: str) -> None:
        """Tell once what could not be written beside a checkpoint."""
        if failed and failed != self._told:
            self._say(f"warning: {failed}; the checkpoint itself is written")
        self._told = failed

    def checkpoint(self) -> StoredCheckpoint:
        """The state of the run, as it was copied; rank 0 only. Training waits for it."""
        assert self._copies is not None
        snapshot = Snapshot.of(self._run, list(self._copies.rows), self._residuals)
        return snapshot.to_checkpoint(self._run.layout, self._provenance | {"written": now()}, self._config)

    @cached_property
    def _config(self) -> str:
        return toml.to_toml(toml.table_from(self._run.settings))

    @cached_property
    def _provenance(self) -> dict[str, str | int]:
        """What the run is made on."""
        where = {"processor": processor(), "host": socket.gethostname(), "mpi": self._comm.description}
        return {**versions(), "blas": self._run.blas, "ranks": self._comm.size, **where}

    # --- during training, and at its end ------------------------------------------------------------------

    def after_step(self) -> None:
        """A step is done; not collective."""
        self._stopping.after_step()
        if self.folder is not None and self._comm.rank == 0:
            self.folder.beat(self._status)

    def stop(self) -> Stopped:
        """Save, as a rank has asked to stop; gives what the run ends with."""
        run, reasons = self._run, self._comm.gather(self._stopping.reason)
        rank = next(rank for rank, reason in enumerate(reasons) if reason)
        why = f"stop requested by {reasons[rank]}" + f" (rank {rank})" * (self._comm.size > 1)
        if self.folder is None:
            self._say(
                f"{why}: stopped after step {run.progress.step}; nothing was saved, as the run has no folder (out)"
            )
            return Stopped(1)
        if failed := self._save_for_good():
            raise self._unsaved(failed)
        self._say(f"{why}: saved step {run.progress.step}; the same command goes on from it")
        from_rank_0(self._comm, self._tell, "stopped", why, NOT_FINISHED)
        self._stopping.obeyed()
        return Stopped(NOT_FINISHED)

    def finish(self) -> str:
        """The last checkpoint; gives what prevented it, if anything did, after some tries."""
        self._saved = -1  # as the run was not known to be finished then
        return self._save_for_good()

    def _save_for_good(self) -> str:
        """As save_now, with some tries."""
        failed = self.save_now()
        for _ in range(TRIES - 1):
            if failed:
                time.sleep(PAUSE)
                failed = self.save_now()
        return failed

    def end(self, failed: str, message: str) -> None:
        """All is done; StorageError if the last checkpoint could not be written."""
        if failed:
            raise self._unsaved(failed)
        from_rank_0(self._comm, self._tell, "finished", message, 0)
        self._stopping.obeyed()  # if that was asked for in the last step

    def _unsaved(self, failed: str) -> StorageError:
        error = StorageError(
            f"{failed}; the state after step {self._run.progress.step} is lost, and the same command goes on from the "
            "last checkpoint that was written"
        )
        error.on_all_ranks = True
        return error

    def _tell(self, state: str, message: str, code: int) -> None:
        if self.folder is not None:
            try:
                self.folder.tell(state, message=message, code=code, **self._status())
            except StorageError as error:
                self._warn(str(error))

    def write_beside(self, name: str, text: str) -> None:
        """Write a file of the run's folder, if there is one; a failure is told."""
        if self.folder is not None:
            from_rank_0(self._comm, self._try_to_write, name, text)

    def _try_to_write(self, name: str, text: str) -> None:
        assert self.folder is not None
        try:
            self.folder.commit(name, text)
        except UserError as error:
            self._say(f"warning: {error}")
