"""Training as users start it: start or resume a run, train it, finish it, and recover if ranks die."""

from __future__ import annotations

import dataclasses
import inspect
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from dbp.blas import blas_threads
from dbp.config.settings import Settings, Watch
from dbp.errors import Interrupted, PassStoppedError, UserError
from dbp.job import job_and_time
from dbp.log import run_log
from dbp.parallel import (
    END_AFTER,
    WARN_AFTER,
    Communicator,
    RankLostError,
    Stage,
    abort_on_error,
    agree,
    from_rank_0,
    keep_freed_memory,
    nodes_of,
    watched,
    world,
)
from dbp.run.evaluation import check_metrics, describe_not_finite, evaluate
from dbp.run.provenance import check_kernels, made_with
from dbp.run.run import Run
from dbp.run.snapshot import Snapshot, progress_of_result
from dbp.run.sources import files_of
from dbp.run.standardization import Standardization
from dbp.saving.checkpoint_info import peek
from dbp.saving.folder import RunFolder
from dbp.saving.saver import RunSaver
from dbp.saving.start import Start, asked_ending, in_job, stoppable_start, with_threads_and_shards
from dbp.saving.stopping import signals
from dbp.terminal import open_closed_streams, write_line
from dbp.text import count_text, duration, figures, parse_limit, parse_steps
from dbp.training.display import Display, introduction
from dbp.training.loop import train_epochs
from dbp.training.recovery import recover
from dbp.training.timing import Timing

if TYPE_CHECKING:
    from dbp.trained.trained_model import TrainedModel

    # Only runs with listeners or a trace load these.
    from dbp.training.events import RunEvents
    from dbp.training.trace import Trace


def fit(
    *positional: object,
    fresh: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    retry: bool = False,
    accept: Sequence[str] = (),
    time_limit: float | str | None = None,
    listeners: Sequence[Callable[[Any], object]] = (),
    trace: str | None = None,
    **settings: Any,
) -> TrainedModel:
    """Train on all ranks of this job, or resume the run in the folder `out`; return the trained model on each of them.

    Args:
        fresh: start over; the checkpoints of an earlier run in `out` are moved aside.
        overwrite: with fresh, delete those checkpoints instead.
        quiet: print nothing.
        retry: start even if the run has ended several times before its next checkpoint.
        accept: settings that may differ from those of the checkpoint, such as "optimizer.learning_rate".
        time_limit: seconds from the start of the process by which the run must have stopped, or a text such as
            "4:00:00"; "auto" for the time that the batch job has left.
        listeners: functions that rank 0 calls with each event of the run, a record of dbp.listeners; one that returns
            dbp.STOP ends the run.
        trace: the first and the last step, such as "100:120", of which trace.json in the run's folder shows what all
            ranks do.
        positional: none; a message says so.
        settings: the fields of dbp.Settings: model, loss, data, optimizer, epochs, batch_size, ...

    Raises:
        UserError: a setting, the data or a checkpoint breaks a rule; the same on every rank, printed once.
        Interrupted: Ctrl-C stopped the run after a step; it is saved if it has a folder, and the `result` of the
            exception is the model with weights and history so far; None if it came before the first step. It is a
            KeyboardInterrupt.
        SystemExit: another signal, a stop file or the time limit stopped the run; it is saved, and the exit code is 75;
            1 if it has no folder.
    """
    if positional:
        raise UserError(
            f"dbp.fit takes its arguments by name, but got a {type(positional[0]).__name__} without one; write "
            "dbp.fit(model=..., loss=..., data=..., optimizer=..., epochs=..., batch_size=...)"
        )
    watch = settings.get("watch")
    limits = (watch.warn_after, watch.end_after) if isinstance(watch, Watch) else (WARN_AFTER, END_AFTER)
    comm = world(*limits)
    with signals, watched(comm, *limits):
        limit = agree(comm, parse_limit, time_limit) if isinstance(time_limit, str) else time_limit
        accepted = (accept,) if isinstance(accept, str) else tuple(accept)
        heard, traced = agree(comm, _listeners, listeners), None if trace is None else agree(comm, parse_steps, trace)
        start = Start(fresh, overwrite, quiet, retry, accepted, limit, listeners=heard, trace=traced)
        given = agree(comm, lambda: Settings.of(**settings))
        return train(given, comm, start, ends_if_asked=True)


def _listeners(given: Any) -> tuple[Any, ...]:
    """Return listeners, checked; their module is loaded only if there are some."""
    if given == ():
        return ()
    from dbp.listeners import as_listeners

    return as_listeners(given)


def _signature() -> inspect.Signature:
    """Return the signature of fit() with the fields of Settings and their defaults, as help() shows it."""
    own = inspect.signature(fit)
    options = [p for p in own.parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    fields = inspect.signature(Settings).parameters.values()
    defaults = {f.name: f.default_factory() for f in dataclasses.fields(Settings) if callable(f.default_factory)}
    shown = [p.replace(default=defaults.get(p.name, p.default), kind=inspect.Parameter.KEYWORD_ONLY) for p in fields]
    return own.replace(parameters=[*shown, *options])


fit.__signature__ = _signature()  # type: ignore[attr-defined]


def train(
    settings: Settings,
    comm: Communicator,
    start: Start = Start(),  # noqa: B008  frozen
    *,
    ends_if_asked: bool = False,
) -> TrainedModel:
    """Train with these settings; see fit(). Under fault tolerance the ranks that live finish the run.

    Args:
        settings: what to train, and how.
        comm: the ranks.
        start: how the run begins.
        ends_if_asked: raise as for any signal if one has come in the last step, which lets the run finish.
    """
    settings, start = in_job(settings, replace(start, ranks=comm.size), *from_rank_0(comm, job_and_time))
    open_closed_streams()
    snapshot, known = None, None
    while True:
        run = saver = display = None  # frees the memory of the last attempt before the next one needs as much
        try:
            with (
                start_run(settings, comm, start, snapshot, known) as (run, saver, display),
                _events(run, saver, display, start) as events,
            ):
                trace = None if start.trace is None else _trace(run, saver, display, start.trace)
                try:
                    steps = train_epochs(run, saver, display, events, trace)
                    result = _finish(run, saver, display, steps, events)
                except Interrupted as interruption:
                    interruption.result = result_of(run)
                    raise
                ending = asked_ending(comm, settings.out is not None, result) if ends_if_asked else None
                comm.survival.confirm()  # all ranks have finished, so none continues without the others
        except RankLostError as error:
            if not comm.survival.enabled:
                raise
            comm, snapshot = recover(settings.watch, error, run, snapshot)
            begun = run is not None
            start = replace(start, fresh=start.fresh and not begun, retry=True)
            settings, known = (settings, known) if run is None else (run.settings, run.standardization)
        else:
            if ending is not None:
                raise ending
            return result


@contextmanager
def start_run(
    settings: Settings,
    comm: Communicator,
    start: Start,
    snapshot: Snapshot | None = None,
    known: Standardization | None = None,
) -> Iterator[tuple[Run, RunSaver, Display]]:
    """Set up a run, restored from its newest checkpoint or from memory, with its saver and its display; collective.

    Args:
        settings: what to train, and how.
        comm: the ranks.
        start: how the run begins.
        snapshot: the state in memory that it continues from, if ranks have died.
        known: how the data is standardized, if a run of this process has found it.
    """
    run_log.start(folder=settings.out is not None)
    watch = settings.watch
    folder = None if settings.out is None else RunFolder(Path(settings.out), settings.checkpoint)
    with abort_on_error(comm), watched(comm, watch.warn_after, watch.end_after), ExitStack() as lock:
        kernels = check_kernels(comm, settings.kernels, start.accept)
        nodes = nodes_of(comm)
        snapshot = snapshot if from_rank_0(comm, lambda: snapshot is not None) else None
        if folder is not None:
            lock.enter_context(folder)
            from_rank_0(comm, _lock, folder, settings)  # before the first look at what is in it
        info = None if start.fresh or snapshot is not None else from_rank_0(comm, peek, settings)
        settings = with_threads_and_shards(settings, info, nodes, start.ranks or comm.size)
        # Ranks that have died during a start may have left this one further than others: rank 0 speaks for all.
        stored = info.meaning if info else from_rank_0(comm, lambda: None if known is None else known.meaning)
        # Class weights that a checkpoint keeps belong to its loss; another one, which may be accepted, has its own.
        known_progress = info.progress if info and info.has_loss_of(settings) else {}
        lock.pop_all()  # from here on the block below has it
    is_shown = not start.quiet and comm.rank == 0

    def say(text: str) -> None:
        write_line(sys.stdout if is_shown else None, text)

    with (
        abort_on_error(comm),
        folder or nullcontext(),
        signals,
        watched(comm, watch.warn_after, watch.end_after, trains=True),
        blas_threads(settings.thread_count),
        np.errstate(over="ignore", invalid="ignore"),
        stoppable_start(comm, settings.out is not None, say),
        Run(settings, comm, kernels, info is not None or snapshot is not None, stored, known_progress) as run,
        Display(is_shown, comm.rank == 0, settings.epochs, run.batches.steps, run.progress.best_by) as display,
    ):
        check_metrics(run)
        for line in introduction(run, nodes, start.job_lines):
            display.say(line)
        with RunSaver(run, folder, start, info, snapshot, display.say) as saver:
            keep_freed_memory()  # only now: memory that the start has freed is not needed again
            yield run, saver, display


def _events(run: Run, saver: RunSaver, display: Display, start: Start) -> AbstractContextManager[RunEvents | None]:
    """Return the events of a run as a context manager, which yields None if nothing on rank 0 listens; collective."""
    if not from_rank_0(run.comm, lambda: bool(start.listeners or run.settings.log.names)):
        return nullcontext()
    from dbp.training.events import RunEvents

    return RunEvents(run, saver, display.say, start.listeners)


def _trace(run: Run, saver: RunSaver, display: Display, steps: tuple[int, int]) -> Trace:
    from dbp.training.trace import Trace

    return Trace(run, saver, display.say, steps)


def _lock(folder: RunFolder, settings: Settings) -> None:
    """Lock the run's folder; raise UserError if another run holds it, or it is not one of its own."""
    folder.lock()
    folder.check_contents(files_of(settings.data))


def _finish(run: Run, saver: RunSaver, display: Display, steps: int, events: RunEvents | None) -> TrainedModel:
    """Save the finished run, evaluate it on the test data and report its timing; collective.

    Args:
        run: after its last epoch.
        saver: of the run.
        display: of the run.
        steps: steps since this start.
        events: for the listeners; None if there are none.
    """
    progress, failed = run.progress, ""
    if not progress.finished:
        progress.finished = True
        failed = saver.finish()
    try:
        test, own, _, shown = evaluate(run, run.sources.test)
        counted = sum(run.comm.gather(own))
        spoiled = _what_spoils(run, test)
    except PassStoppedError:
        raise saver.stop() from None
    how = progress.outcome or "finished"
    done = f"{count_text(progress.epoch, 'epoch')}, {count_text(progress.step, 'step')}"
    message = f"{how}: {done} in {duration(progress.elapsed)}"
    display.say(message)
    which = ""
    if run.has_best:
        which, column = f", best epoch {progress.best_epoch} of {progress.epoch}", progress.best_by.replace("_", " ")
        display.say(f"the result is epoch {progress.best_epoch}, the best by {column} ({progress.best_value:.4g})")
    if steps:
        timing = Timing.gathered(run.comm, steps)
        saver.write_beside("timing.csv", timing.table())
        display.say(str(timing))
        if timing.takes_long(Stage.DATA) and (advice := run.reading.advice(run.comm.nodes.count)):
            display.say(f"data takes more of a step than it should: {advice}")
        if advice := timing.advice_on_waiting:
            display.say(advice)
    if run.sources.test is not None:
        if spoiled:
            display.say(f"warning: the test cost is {test['cost']}: {spoiled}")
        display.say(f"test: {figures(shown)}  ({count_text(counted, 'example')}{which})")
    saver.end(failed, message)
    if events is not None:
        events.end(how, test)
    return result_of(run, test)


def _what_spoils(run: Run, test: dict[str, float]) -> str:
    """Return which examples of the test data make its cost not finite; "" if it is finite; collective."""
    data = run.sources.test
    return "" if data is None or math.isfinite(test["cost"]) else describe_not_finite(run, data)


def result_of(run: Run, test: Mapping[str, float] = MappingProxyType({})) -> TrainedModel:
    """Return the model that a run has trained so far; collective.

    Args:
        run: the run, between two steps.
        test: cost and metrics on its test data.
    """
    from dbp.trained.named_data import without_arrays  # not needed before the first step, nor is the next
    from dbp.trained.trained_model import TrainedModel

    settings = run.settings
    return TrainedModel(
        replace(settings, data=without_arrays(settings.data), loss=run.loss),
        run.final_weights(),
        run.progress.history,
        dict(test),
        run.meaning,
        progress_of_result(run),
        made_with(run.comm, run.kernels),
        path=None if settings.out is None else Path(settings.out),
    )
