"""Saving a run: its folder is prepared, checkpoints are written while training continues, and its end is noted."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from dbp.checkpoint import StoredCheckpoint
from dbp.config.config_file import RUN_CONFIG
from dbp.errors import INTERRUPTED, NOT_FINISHED, Interrupted, Stopped, StorageError, UserError
from dbp.log import now, run_log
from dbp.parallel import Copies, RankLostError, Residuals, Stage, check_nodes_agree, from_rank_0, is_on_all_ranks
from dbp.run.provenance import made_with, process
from dbp.run.run import Run
from dbp.run.snapshot import Snapshot
from dbp.run.stored_settings import stored_config, stored_meaning
from dbp.saving.checkpoint_info import CheckpointInfo
from dbp.saving.checkpoint_writing import CheckpointWriting
from dbp.saving.folder import WRITTEN_BY_DBP, RunFolder
from dbp.saving.restore import Restorer
from dbp.saving.start import Start, who_asked
from dbp.saving.stopping import Stopping
from dbp.text import count_text

Say = Callable[[str], None]
MAX_TRIES = 3  # at writing the last checkpoint
RETRY_SECONDS = 2.0  # between two of them
FAILURE_WAIT_SECONDS = 2.0  # that rank 0 waits for a checkpoint being written when the run fails


class RunSaver:
    """A context manager that saves the state of a run to its folder; collective, but where a method says so.

    On entry the run is restored if it continues from a checkpoint or from memory.

    Args:
        run: the run.
        folder: its folder, locked on rank 0; None if it has none.
        start: how the run starts.
        info: the checkpoint that it continues from, if there is one.
        snapshot: the state in memory that it continues from, if ranks have died.
        say: prints a line.
    """

    def __init__(
        self,
        run: Run,
        folder: RunFolder | None,
        start: Start,
        info: CheckpointInfo | None,
        snapshot: Snapshot | None,
        say: Say,
    ):
        self._run, self._start, self._info, self._snapshot, self._say = run, start, info, snapshot, say
        self.folder, self._comm = folder, run.comm
        stop_file = None if self.folder is None else self.folder.stop_file
        self._stopping = Stopping(self._comm.rank == 0, stop_file, start.limit)
        self._saved = -1  # the last saved step
        self._writing: CheckpointWriting | None = None
        self._copies: Copies | None = None
        if self.folder is not None:
            self._copies = Copies(run.arena, len(run.vectors))
            self._writing = CheckpointWriting(self.folder, say, self._stopping.note_save_time)

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self._leave()
            raise
        self._comm.asks_to_stop = self._stopping.is_requested
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._comm.__dict__.pop("asks_to_stop", None)
        if self._writing is not None and self._comm.rank == 0:
            self._writing.end(None if is_on_all_ranks(error) else FAILURE_WAIT_SECONDS)
        if error is not None and not isinstance(error, (Stopped, Interrupted, RankLostError)):
            self._note_failure(error)
        self._leave()
        if error is None or isinstance(error, (Stopped, Interrupted)):  # else the log gets the error too
            run_log.close()

    def _note_failure(self, error: BaseException) -> None:
        """Write why the run has failed: on rank 0, or on another rank that fails alone."""
        rank, size = self._comm.rank, self._comm.size
        if self.folder is None or (rank and is_on_all_ranks(error)):
            return
        message = str(error) or type(error).__name__
        code = error.exit_code if isinstance(error, UserError) else 1
        with contextlib.suppress(StorageError):
            if rank == 0:
                self.folder.write_status("failed", message=message, code=code)
            else:
                self.folder.write_failure(f"rank {rank} of {size} on {socket.gethostname()}: {message}", code)

    def _leave(self) -> None:
        if self._copies is not None:
            self._copies.free()

    # --- start ------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Restore the run if it continues from an earlier state, and prepare its folder."""
        run, comm = self._run, self._comm
        assert run.restored == (self._snapshot is not None or self._info is not None), "its weights would be zeros"
        from_rank_0(comm, self._check_time)
        damaged: tuple[Path, ...] = ()
        if self._snapshot is not None:
            self._snapshot.put_into(run)
            self._say(f"continues at epoch {run.progress.epoch + 1}, step {run.progress.step}, from memory")
        elif self._start.fresh:
            from_rank_0(comm, self._set_aside)
        elif self._info is not None and self.folder is not None:
            damaged = Restorer(run, self.folder, self._say).resume(self._info, self._start.accept)
        run.arena.synchronize(run.weights)
        from_rank_0(comm, self._prepare, damaged)
        if self.folder is not None:
            run_log.open(self.folder.path, comm.rank, comm.size, process())

    def _check_time(self) -> None:
        self._stopping.check({} if self.folder is None or self._info is None else self.folder.status())

    def _set_aside(self) -> None:
        """Move the checkpoints of an earlier run aside, or delete them."""
        if self.folder is None:
            return
        if self._start.overwrite:
            if count := self.folder.checkpoints.delete():
                where = f"of an earlier run in {self.folder.checkpoints.path}"
                self._say(f"deleted {count_text(count, 'checkpoint')} {where}")
        elif (aside := self.folder.checkpoints.set_aside()) is not None:
            self._say(f"the checkpoints of an earlier run were moved to {aside}")

    def _prepare(self, damaged: tuple[Path, ...]) -> None:
        if self.folder is not None:
            config, _ = self._texts  # before anything is written
            self.folder.checkpoints.prepare(damaged)
            if not (self._run.progress.finished and self.folder.has_config):  # else nothing is trained with these
                self.folder.commit(RUN_CONFIG, WRITTEN_BY_DBP + config)
            step, most = self._run.progress.step, self._run.settings.watch.most_starts
            self.folder.begin(step, most, self._start.retry or self._start.fresh)
            self.folder.write_status("running", **self._status())

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
        """Copy the run's state and start to write it, after the checkpoint before is written.

        Do nothing if the state after this step is saved already.
        """
        run = self._run
        if self._saved == run.progress.step:
            return
        before = self._comm.clock.enter(Stage.CHECKPOINT)
        if run.settings.watch.compare_every_steps:
            check_nodes_agree(run.arena, run.weights, run.progress.step)
        if self._copies is not None and self._writing is not None:
            self.settle()
            self._copies.take(list(run.vectors.values()))
            residuals = run.objective.gradients.snapshot()
            self._comm.survival.confirm()  # all ranks have copied their parts
            self._saved = run.progress.step
            if self._comm.rank == 0:
                checkpoint = self._checkpoint(residuals)
                best = checkpoint.at_best_epoch() if run.has_best else None
                self._writing.start(checkpoint, best, run.rollback_targets, self._status())
        self._comm.clock.enter(before)

    def save_now(self) -> str:
        """Save, wait until it is written, and return why it was not; "" if it was."""
        self.save()
        before = self._comm.clock.enter(Stage.CHECKPOINT)
        failed = self.settle()
        self._comm.clock.enter(before)
        return failed

    def take_best(self) -> None:
        """Keep the run's weights as those of its best epoch, once those of the one before are written."""
        if self._run.best is not None:
            self.settle()
            self._run.take_best()

    def restore(self, until: int) -> tuple[Path, tuple[Path, ...]]:
        """Restore the newest intact checkpoint from a step or before it; see Restorer.restore()."""
        assert self.folder is not None
        self.settle()
        self._saved = -1  # the same steps will be saved again, in another state
        return Restorer(self._run, self.folder, self._say).restore(until)

    def settle(self) -> str:
        """Wait for the checkpoint being written, and return why the last one was not written; "" if it was."""
        failed = "" if self._writing is None else from_rank_0(self._comm, self._writing.wait)
        if failed:  # on all ranks, as they must agree on whether to save again
            self._saved = -1
        return failed

    def _checkpoint(self, residuals: Residuals) -> StoredCheckpoint:
        """Return the state, with the copied vectors, on rank 0; training waits for it.

        Args:
            residuals: the copied error feedback.
        """
        assert self._copies is not None
        snapshot = Snapshot.of(self._run, list(self._copies.rows), residuals)
        provenance = self._provenance | {"written": now()}
        return snapshot.to_checkpoint(self._run.layout, provenance, *self._texts, self._run.objective.frozen)

    @cached_property
    def _texts(self) -> tuple[str, str]:
        """Return the settings and the meaning of the data; raise UserError if a later start could not read them."""
        return stored_config(self._run.settings), stored_meaning(self._run.meaning)

    @cached_property
    def _provenance(self) -> dict[str, str | int]:
        """Return what the run is made with: versions, ranks, processor, host."""
        return made_with(self._comm, self._run.kernels)

    # --- during training, and at its end ------------------------------------------------------------------

    def note_step_time(self) -> None:
        """Note that a step has ended, for the time limit and the status; not collective."""
        self._stopping.note_step_time()
        if self.folder is not None and self._comm.rank == 0:
            self.folder.write_heartbeat(self._status)

    def stop(self) -> Stopped | Interrupted:
        """Save because a rank has asked to stop, and return the exception that ends the run on all ranks."""
        why, is_interrupted = who_asked(self._comm, self._stopping.reason)
        text, code = f"{why}: {self.save_before_end()}", NOT_FINISHED
        if self.folder is None:
            code = INTERRUPTED if is_interrupted else 1
        self._say(text)
        from_rank_0(self._comm, self._write_end, "stopped", why, code)
        self._stopping.clear_stop_file()
        return Interrupted(text, code) if is_interrupted else Stopped(code)

    def save_before_end(self) -> str:
        """Save because the run cannot go on now, and return what is saved, in words; raise StorageError if it fails."""
        step = self._run.progress.step
        if self.folder is None:
            return f"stopped after step {step}; nothing was saved, as the run has no folder (out)"
        if failed := self._save_with_retries():
            raise self._unsaved(failed)
        return f"saved step {step}; the same command resumes from it"

    def written_checkpoints(self) -> Iterator[tuple[int, Path]]:
        """Yield step and file of the checkpoints that were written since the last call; rank 0 only, not collective."""
        while self._writing is not None and self._writing.written:
            yield self._writing.written.popleft()

    def finish(self) -> str:
        """Write the last checkpoint, and return why it was not written; "" if it was."""
        self._saved = -1  # a checkpoint of this step does not say that the run is finished
        return self._save_with_retries()

    def _save_with_retries(self) -> str:
        """Save like save_now(), with up to MAX_TRIES tries."""
        failed = self.save_now()
        for _ in range(MAX_TRIES - 1):
            if failed:
                time.sleep(RETRY_SECONDS)
                failed = self.save_now()
        return failed

    def end(self, failed: str, message: str) -> None:
        """Note that the run has ended; raise StorageError if its last checkpoint could not be written.

        Args:
            failed: why it could not; "" if it was written.
            message: the last line of the run.
        """
        if failed:
            raise self._unsaved(failed)
        from_rank_0(self._comm, self._write_end, "finished", message, 0)
        self._stopping.clear_stop_file()  # it may have come during the last step

    def _unsaved(self, failed: str) -> StorageError:
        error = StorageError(
            f"{failed}; the state after step {self._run.progress.step} is lost, and the same command resumes from the "
            "last checkpoint that was written"
        )
        error.on_all_ranks = True
        return error

    def _write_end(self, state: str, message: str, code: int) -> None:
        if self.folder is not None and self._writing is not None:
            try:
                self.folder.write_status(state, message=message, code=code, **self._status())
            except StorageError as error:
                self._writing.warn(str(error))

    def write_beside(self, name: str, text: str) -> None:
        """Write a text file to the run's folder, if there is one; warn if that fails."""
        if self.folder is not None:
            from_rank_0(self._comm, self._try_to_write, name, text)

    def _try_to_write(self, name: str, text: str) -> None:
        assert self.folder is not None
        try:
            self.folder.commit(name, text)
        except UserError as error:
            self._say(f"warning: {error}")
