"""A run's state to its folder and back: how it begins, is saved beside the training, stops and ends."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dbp import config
from dbp.autodiff import Array
from dbp.checkpoint import Checkpoint, Writer
from dbp.errors import StorageError, UserError
from dbp.log import run_log
from dbp.nn import named_arrays
from dbp.parallel import Copies, RankLostError, agree, all_leave, from_rank_0, processor, stages
from dbp.provenance import now, process, versions
from dbp.resuming import Comparison, Earlier, Start, check_arrays, check_same_run, none_whole
from dbp.run import Run
from dbp.run_folder import RunFolder
from dbp.stopping import NOT_FINISHED, Stopped, Stopping

if TYPE_CHECKING:
    from dbp.checkpoint import Opened

Say = Callable[[str], None]
TRIES, PAUSE = 3, 2.0  # at the last checkpoint, and seconds between them
LEFT = 1 << 26  # bytes that history, numbers and running moments may have besides what the model says
PATIENCE = 2.0  # seconds that a failing rank 0 waits for what is being written


class Keeper:
    """Keeps what a run has come to, in a with statement; all methods but after_step are collective.

    Args:
        run: whose state it keeps.
        start: how the run is to begin.
        earlier: the checkpoint that it goes on from, if there is one.
        say: what a line is said with.
    """

    def __init__(self, run: Run, start: Start, earlier: Earlier | None, say: Say):
        self._run, self._start, self._earlier, self._say = run, start, earlier, say
        settings, self._comm = run.settings, run.comm
        self.folder = None if settings.out is None else RunFolder(Path(settings.out), settings.checkpoint)
        stop_file = None if self.folder is None else self.folder.stop_file
        self._stopping = Stopping(self._comm.rank == 0, stop_file, start.time_limit)
        self._writer, self._failed, self._seconds = Writer(), "", 0.0
        self._beside = self._told = ""  # what has failed beside the last checkpoint, and what was said of it
        self._saved = -1  # the step that was saved last
        self._source: Opened | None = None  # what is restored from, on rank 0
        self._copies = None if self.folder is None else Copies(run.arena, 1 + len(run.state.vectors))

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
                    self.folder.tell("failed", message=str(error) or type(error).__name__)
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
        from_rank_0(comm, self._lock)
        damaged: tuple[Path, ...] = ()
        if self._start.fresh:
            from_rank_0(comm, self._set_aside)
        elif self._earlier is not None:
            damaged = self._resume(self._earlier)
        run.arena.settle(run.weights)
        from_rank_0(comm, self._prepare, damaged)
        if self.folder is not None:
            run_log.open(self.folder.path, comm.rank, comm.size, process())

    def _lock(self) -> None:
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
        }

    # --- going on ---------------------------------------------------------------------------------------

    def _resume(self, earlier: Earlier) -> tuple[Path, ...]:
        """Take up the newest whole checkpoint; gives the files that were passed over."""
        run, progress = self._run, self._run.progress
        comparison = Comparison.between(earlier, run.settings, run.shards.count, run.digests)
        agree(self._comm, check_same_run, earlier, comparison, self._start.accept)
        agree(self._comm, self._check_arrays, earlier)
        path, passed_over = self.restore()
        for text in passed_over.values():
            self._say(f"warning: {text}; an older one is used, and this one kept with another name")
        changes = [*comparison.free.values(), *comparison.wrong.values(), *self._other_ranks(earlier)]
        if progress.finished:
            how = progress.outcome or "raise epochs to go on from it, or start anew with --fresh"
            self._say(f"{path} is finished: {how}")
        else:
            self._say(f"resumed from {path} at epoch {progress.epoch + 1}, step {progress.step}")
            if run.settings.optimizer.forgets:
                self._say(f"note: {run.settings.optimizer.forgets}")
        if changes:
            self._say(f"note: what differs from the run so far: {'; '.join(changes)}")
        if (was := earlier.provenance.get("blas")) != run.blas:
            self._say(f"warning: the checkpoint was made with {was}: from here on, bits may differ from its run's")
        return tuple(passed_over)

    def _other_ranks(self, earlier: Earlier) -> list[str]:
        was = earlier.provenance.get("ranks")
        return [] if was == self._comm.size else [f"ranks: {was} in the checkpoint, {self._comm.size} now"]

    def restore(self) -> tuple[Path, dict[Path, str]]:
        """Bring back the state in the newest whole checkpoint; gives its name, and files that cannot be used and why.

        Raises:
            DataError: there is none, or it is not one of this run.
        """
        run, comm = self._run, self._comm
        with contextlib.ExitStack() as stack:
            path, passed_over, small, progress = from_rank_0(comm, self._open, stack)
            self._fill(run.weights, "model")
            for name, vector in run.state.vectors.items():
                self._fill(vector, f"optimizer/{name}")
            self._source = None
        for name, array in named_arrays(run.running).items():
            array[...] = small[f"model/{name}"]
        run.state.numbers.update({name[7:]: array for name, array in small.items() if name.startswith("method/")})
        run.state.derived.clear()
        history = {name[8:]: array for name, array in small.items() if name.startswith("history/")}
        run.progress.restore(progress, history)
        if run.progress.epoch < run.settings.epochs and not run.progress.outcome:
            run.progress.finished = False
        return path, passed_over

    def _open(self, stack: contextlib.ExitStack) -> tuple[Path, dict[Path, str], dict[str, Array], Mapping[str, Any]]:
        assert self.folder is not None
        newest = stack.enter_context(self.folder.checkpoints.newest(lambda found: self._refuse(Earlier.of(found))))
        if newest.found is None:
            raise none_whole(self._run.settings, list(newest.passed_over.values()))
        self._source = found = newest.found
        large = {f"model/{name}" for name in self._run.layout.shapes}
        names = [name for name in found.entries if name not in large and not name.startswith("optimizer/")]
        return found.path, newest.passed_over, {name: found.array(name) for name in names}, found.progress

    def _check_arrays(self, earlier: Earlier) -> None:
        if reason := self._refuse(earlier):
            raise UserError(
                f"checkpoint {earlier.path} is of another run ({reason}); start anew with --fresh, or choose another "
                "folder with --out"
            )

    def _refuse(self, earlier: Earlier) -> str | None:
        """Why a checkpoint is not one of this run: then its arrays are not even read."""
        run = self._run
        arrays = {f"model/{name}": array for name, array in run.model_arrays(run.weights).items()}
        for vector in run.state.vectors:
            arrays |= {f"optimizer/{vector}/{name}": array for name, array in run.layout.views(run.weights).items()}
        return check_arrays(earlier, {name: (array.dtype.str, array.shape) for name, array in arrays.items()}, LEFT)

    def _fill(self, vector: Array, group: str) -> None:
        """Bring back a vector, which rank 0 reads for all."""
        arena = self._run.arena
        whole = np.empty_like(vector) if arena.divided and self._comm.rank == 0 else vector
        from_rank_0(self._comm, self._read, whole, group)
        arena.dispersed(whole, vector)

    def _read(self, whole: Array, group: str) -> None:
        assert self._source is not None
        for name, view in self._run.layout.views(whole, writable=True).items():
            self._source.read_into(f"{group}/{name}", view)

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
            self._copies.take([run.weights, *run.state.vectors.values()])
            self._comm.confirm()  # that all have copied what is theirs
            self._saved = run.progress.step
            if self._comm.rank == 0:
                best = run.progress.best_step if run.settings.checkpoint.best else None
                self._writer.start(partial(self._write, self.checkpoint(), best, self._status()))
        self._comm.stages.enter(before)

    def save_now(self) -> str:
        """Save, and wait for it; gives what prevented it, if anything did."""
        self.save()
        before = self._comm.stages.enter(stages.CHECKPOINT)
        failed = self.settle()
        self._comm.stages.enter(before)
        return failed

    @property
    def writing(self) -> bool:
        """Whether a checkpoint is being written, on rank 0; not collective."""
        return self._writer.busy

    def settle(self) -> str:
        """Wait until what was begun is written; gives what prevented the last writing, if anything did."""
        failed = str(from_rank_0(self._comm, self._wait)) if self.folder is not None else ""
        if failed:  # on all ranks, as all of them must agree on whether the next one is needed
            self._saved = -1
        return failed

    def _wait(self) -> str:
        failure, begun = self._writer.wait()
        if failure is not None:
            if _reason(failure) != _reason(self._failed):
                self._say(f"warning: {failure}; training goes on, and the next checkpoint is tried")
            self._failed = str(failure)
        elif begun:
            if self._failed:
                self._say("checkpoints are written again")
            self._failed = ""
            self._warn(self._beside)
            self._stopping.after_save(self._seconds)
        return self._failed

    def _write(self, checkpoint: Checkpoint, best: int | None, status: Mapping[str, Any]) -> None:
        """In a thread of its own."""
        assert self.folder is not None
        began, step = time.monotonic(), int(checkpoint.progress["step"])
        path = self.folder.checkpoints.save(checkpoint, step)
        try:
            self.folder.checkpoints.tidy(path, best)
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

    def checkpoint(self) -> Checkpoint:
        """The state of the run, as it was copied; rank 0 only. Training waits for it."""
        assert self._copies is not None
        run, (weights, *vectors) = self._run, self._copies.rows
        data = {f"data_{name}": digest for name, digest in run.digests.items()}
        attributes = {"shards": run.shards.count, "seed": run.settings.seed} | data
        return Checkpoint(
            model=run.layout.views(weights) | {n: array.copy() for n, array in named_arrays(run.running).items()},
            optimizer={n: run.layout.views(row) for n, row in zip(run.state.vectors, vectors, strict=True)},
            method={name: array.copy() for name, array in run.state.numbers.items()},
            history=run.progress.history_arrays(),
            progress=run.progress.to_attributes() | attributes,
            provenance=self._provenance | {"written": now()},
            config=self._config,
        )

    @cached_property
    def _config(self) -> str:
        return config.to_toml(config.table_from(self._run.settings))

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
            self.folder.beat(epoch=self._run.progress.epoch, step=self._run.progress.step)

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
        from_rank_0(self._comm, self._tell, "stopped", why)
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
        from_rank_0(self._comm, self._tell, "finished", message)

    def _unsaved(self, failed: str) -> StorageError:
        error = StorageError(
            f"{failed}; the state after step {self._run.progress.step} is lost, and the same command goes on from the "
            "last checkpoint that was written"
        )
        error.on_all_ranks = True
        return error

    def _tell(self, state: str, message: str) -> None:
        if self.folder is not None:
            try:
                self.folder.tell(state, message=message, **self._status())
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


def _reason(failure: object) -> str:
    """Why a file could not be written, whichever it was."""
    return str(failure).partition(" cannot be written: ")[2]
