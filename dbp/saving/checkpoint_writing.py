"""Writing the checkpoints of a run, and the files beside them, while training continues. Rank 0 only."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from dbp.checkpoint import Pace, StoredCheckpoint, Writer
from dbp.errors import StorageError
from dbp.saving.folder import RunFolder


class CheckpointWriting:
    """The writing of a run's checkpoints, one after the other, in a thread.

    Args:
        folder: of the run.
        say: prints a line.
        note_seconds: is called with the seconds that a checkpoint took.
    """

    def __init__(self, folder: RunFolder, say: Callable[[str], None], note_seconds: Callable[[float], None]):
        self._folder, self._say, self._note_seconds = folder, say, note_seconds
        self._writer, self._seconds = Writer(), 0.0
        self.written: deque[tuple[int, Path]] = deque()  # steps and files, in order; whoever is told of one removes it
        self._failed = self._reason = ""  # message and reason of the last checkpoint that could not be written
        self._best_step = -1  # of the best weights that are written; -1 while this start has not looked
        self._side_failure = self._warned = ""  # of files beside the checkpoint: the last failure, the last warning

    def start(
        self, checkpoint: StoredCheckpoint, best: StoredCheckpoint | None, others: set[int], status: Mapping[str, Any]
    ) -> None:
        """Start to write a checkpoint; see _write() for the arguments."""
        self._writer.start(partial(self._write, checkpoint, best, others, status))

    def end(self, seconds: float | None) -> None:
        """Wait for the checkpoint being written, for some seconds at most if a number is given."""
        self._writer.end(seconds)

    def wait(self) -> str:
        """Wait for the checkpoint being written; return why the last one was not written, "" if it was."""
        failure, begun = self._writer.wait()
        if failure is not None:
            if not self._failed or failure.reason != self._reason:
                self._say(f"warning: {failure}; training continues, and the next checkpoint is tried")
            self._failed, self._reason = str(failure), failure.reason
        elif begun:
            if self._failed:
                self._say("checkpoints are written again")
            self._failed = ""
            self.warn(self._side_failure)
            self._note_seconds(self._seconds)
        return self._failed

    def _write(
        self,
        checkpoint: StoredCheckpoint,
        best: StoredCheckpoint | None,
        others: set[int],
        status: Mapping[str, Any],
        pace: Pace,
    ) -> None:
        """Write a checkpoint and the files beside it, in the writer thread.

        Args:
            checkpoint: the state to write.
            best: the weights of the best epoch; None if there are none.
            others: steps of other checkpoints that are kept.
            status: the status of the run at this step.
            pace: the pauses to make, which do not count as time that a checkpoint takes.
        """
        began, step = time.monotonic(), int(checkpoint.progress["step"])
        # First, so that a finished run has its best weights whenever it is killed. Their failure is no reason not to
        # write the checkpoint, which holds them too.
        with contextlib.suppress(StorageError):
            self._write_best(best, pace)
        path = self._folder.checkpoints.save(checkpoint, step, pace)
        self.written.append((step, path))
        try:
            self._write_best(best, pace)
            self._folder.checkpoints.tidy(path, others)
            self._folder.commit_history({name: column.tolist() for name, column in checkpoint.history.items()})
            self._folder.write_status("running", checkpoint=path.name, **status)
            self._side_failure = ""
        except StorageError as error:  # the checkpoint itself is written
            self._side_failure = str(error)
        self._seconds = time.monotonic() - began - pace.paused

    def _write_best(self, best: StoredCheckpoint | None, pace: Pace) -> None:
        """Write the weights of the best epoch unless that is done."""
        step = 0 if best is None else int(best.progress["step"])
        if step != self._best_step or (step and not self._folder.checkpoints.has_best):
            self._folder.checkpoints.save_best(best, pace)
            self._best_step = step

    def warn(self, failed: str) -> None:
        """Warn once of a file beside the checkpoint that could not be written."""
        if failed and failed != self._warned:
            self._say(f"warning: {failed}; the checkpoint itself is written")
        self._warned = failed
