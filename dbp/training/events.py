"""The events of a run: made from its state, and given to the listeners, which are on rank 0."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from dbp.config.flat_table import flatten
from dbp.config.to_table import table_from
from dbp.cost.mini_batch import ExampleSums
from dbp.errors import Interrupted, ListenerError, Stopped, UserError
from dbp.listeners.events import CheckpointWritten, End, Epoch, Event, Start, Step, Values, read_only
from dbp.listeners.listener import STOP, Listener, failure
from dbp.listeners.logs import logs
from dbp.log import run_log
from dbp.parallel import RankLostError, on_one_rank
from dbp.run.progress import STOPPED_BY_LISTENER
from dbp.run.run import Run
from dbp.saving.saver import RunSaver, Say
from dbp.terminal import write_error


@dataclass(frozen=True)
class _Answer:
    """The answer of a listener that ends the run.

    Args:
        name: of the listener.
        error: what it has raised, in words; "" if it has returned STOP.
        when: it was called, in words.
    """

    name: str
    error: str
    when: str


class RunEvents:
    """The events of a run, from the start to the end of a with statement; on all ranks, or on none.

    An answer that ends the run reaches all ranks as a flag with the sum of the next step, and after that step they
    settle() it. At the ends of epochs, where ranks wait for each other anyway, they settle it at once.

    Args:
        run: the run, restored if it resumes.
        saver: of the run.
        say: prints a line.
        listeners: that are called; on rank 0 alone.
    """

    def __init__(self, run: Run, saver: RunSaver, say: Say, listeners: Sequence[Listener]):
        self._run, self._saver, self._say = run, saver, say
        self._listeners: list[Listener] = []
        if run.comm.rank == 0:
            own = (
                [] if saver.folder is None else logs(saver.folder.path, run.settings.log.names, run.settings.log.every)
            )
            self._listeners = [*own, *listeners]
        self._answer: _Answer | None = None
        self._failed: set[int] = set()  # listeners that are not called again
        self._warned: set[int] = set()  # harmless ones that have failed
        self._ended = False
        self._asks_to_stop = run.comm.asks_to_stop

    def __enter__(self) -> Self:
        self._run.comm.asks_to_stop = lambda: self._answer is not None or self._asks_to_stop()
        try:
            if self._listeners:
                self._call(self._start())
            self._settle(save=False)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run.comm.asks_to_stop = self._asks_to_stop
        if error is None or self._ended or isinstance(error, RankLostError):  # after a loss, the run goes on
            return
        self._call_checkpoints()
        outcome = {Stopped: "stopped", Interrupted: "interrupted"}.get(type(error), "failed")
        message = "" if outcome == "stopped" else str(error) or type(error).__name__
        self._call_end(outcome, {}, message if outcome == "failed" else "")

    # --- events -----------------------------------------------------------------------------------------

    def after_step(self, examples: int, totals: ExampleSums) -> None:
        """Call the listeners that hear of this step; not collective.

        Args:
            examples: of the step.
            totals: sums over them.
        """
        if not self._listeners:
            return
        self._call_checkpoints()
        progress = self._run.progress
        hearing = [one for one in self._listeners if one.every and not progress.step % one.every]
        if hearing:
            length, metrics = {self._run.settings.optimizer.length_name: progress.length}, self._run.metrics.training
            values = Values(lambda: totals.values(metrics) | length)
            epoch = progress.epoch + 1
            self._call(Step(progress.step, epoch, examples, progress.clock(), values), hearing)

    def after_epoch(self, row: Mapping[str, float]) -> None:
        """Call the listeners with a row of the history; collective.

        Raises:
            ListenerError: one has failed.
        """
        if self._listeners:
            self._call_checkpoints()
            progress = self._run.progress
            self._call(Epoch(progress.epoch, progress.step, read_only(row), progress.is_best))
        self.settle()

    def end(self, outcome: str, test: Mapping[str, float]) -> None:
        """Call the listeners at the end of the finished run; collective.

        Args:
            outcome: how it ended.
            test: cost and metrics on the test data.

        Raises:
            ListenerError: one has failed.
        """
        self._call_checkpoints()
        self._call_end(outcome, test, "")
        self._settle(save=False)

    def settle(self) -> bool:
        """End the run if a listener has asked for it, and return whether one has; collective.

        Raises:
            ListenerError: it has failed; the run is saved.
        """
        return self._settle(save=True)

    # --- calls of listeners, on rank 0 ------------------------------------------------------------------

    def _start(self) -> Start:
        run, progress = self._run, self._run.progress
        folder = None if self._saver.folder is None else self._saver.folder.path.resolve()
        return Start(
            run.comm.size,
            run.layout.size + (0 if run.frozen is None else run.frozen.arena.size),
            run.settings.epochs,
            run.batches.steps,
            progress.epoch,
            progress.step,
            int([0, *progress.history.get("step", [])][-1]),
            folder,
            read_only(flatten(table_from(run.settings))),
        )

    def _call_checkpoints(self) -> None:
        if self._listeners:
            for step, path in self._saver.written_checkpoints():
                self._call(CheckpointWritten(step, path.resolve()))

    def _call_end(self, outcome: str, test: Mapping[str, float], error: str) -> None:
        self._ended, progress = True, self._run.progress
        if self._listeners:
            self._call(End(outcome, progress.epoch, progress.step, read_only(test), error))

    def _call(self, event: Event, hearing: Sequence[Listener] | None = None) -> None:
        """Call listeners, by default all, with an event."""
        for listener in self._listeners if hearing is None else hearing:
            if id(listener) in self._failed:
                continue
            try:
                with on_one_rank():
                    answer = listener.function(event)
            except Exception as error:
                self._note_failure(listener, event, error)
            else:
                if answer is STOP and self._answer is None:
                    self._answer = _Answer(listener.name, "", _when(event))

    def _note_failure(self, listener: Listener, event: Event, error: Exception) -> None:
        """Warn of a harmless failure, the first time; note any other as an answer."""
        text, when = failure(error), _when(event)
        if listener.harmless:
            if id(listener) not in self._warned:
                self._warned.add(id(listener))
                self._say(f"warning: listener {listener.name} failed {when}: {text}; training continues")
            return
        if not isinstance(error, UserError):
            lines = traceback.format_exception(type(error), error, error.__traceback__ and error.__traceback__.tb_next)
            run_log.write("".join(lines).rstrip())
            write_error("".join(lines).rstrip())
        self._failed.add(id(listener))
        self._answer = _Answer(listener.name, text, when)

    # --- answers ----------------------------------------------------------------------------------------

    def _settle(self, save: bool) -> bool:
        answer: _Answer | None = self._run.comm.broadcast(self._answer)
        self._answer = None
        if answer is None:
            return False
        if answer.error:
            saved = f"; {self._saver.save_before_end()}" if save else ""
            raise ListenerError(f"listener {answer.name} failed {answer.when}: {answer.error}{saved}")
        progress, epochs = self._run.progress, self._run.settings.epochs
        if not (self._ended or progress.outcome or progress.epoch + self._run.at_end_of_epoch >= epochs):
            progress.outcome = f"{STOPPED_BY_LISTENER} {answer.name}"
        return True


def _when(event: Event) -> str:
    """Return in words when a listener was called."""
    match event:
        case Start():
            return "at the start"
        case Step():
            return f"after step {event.step}"
        case Epoch():
            return f"after epoch {event.epoch}"
        case CheckpointWritten():
            return f"at the checkpoint of step {event.step}"
        case End():
            return "at the end"
