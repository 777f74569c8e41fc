"""The training loop: the seven stages in order, from a mini-batch's examples to a checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dbp.autodiff import Array
from dbp.display import Display, duration, figures
from dbp.errors import NotFiniteError
from dbp.keeping import Keeper
from dbp.log import run_log
from dbp.nn import update_all
from dbp.optim import Outcome
from dbp.parallel import (
    Communicator,
    RankLostError,
    Watch,
    agree,
    blas_threads,
    from_rank_0,
    keep_freed_memory,
    nodes_of,
    stages,
    survivors,
    together,
    world,
)
from dbp.progress import epochs_since_best
from dbp.resuming import Start, peek, settled
from dbp.run import Run
from dbp.settings import Settings
from dbp.stopping import NOT_FINISHED, Stopped, signals
from dbp.timing import Timing


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Args:
        weights: and running moments, by name; averaged weights, where the optimizer keeps an average.
        history: by column.
        test: cost and metrics on the test data.
        steps: of the run.
    """

    weights: dict[str, Array]
    history: dict[str, list[float]]
    test: dict[str, float]
    steps: int


def fit(
    *,
    fresh: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    retry: bool = False,
    accept: Sequence[str] = (),
    time_limit: float | None = None,
    **settings: Any,
) -> Result:
    """Train, on all ranks of this job, or go on with the training that the folder `out` holds.

    Args:
        fresh: start anew; the checkpoints of an earlier run in `out` are moved aside.
        overwrite: with fresh, delete those checkpoints instead.
        quiet: print nothing.
        retry: start although the run has ended before its next checkpoint again and again.
        accept: settings that may differ from those of the checkpoint, such as "optimizer.learning_rate".
        time_limit: seconds after the start of the training until which it is to have stopped.
        settings: those of Settings: model, loss, data, optimizer, epochs, batch_size, ...

    Raises:
        UserError: a setting, the data or a checkpoint breaks a rule; told once and the same on every rank.
        SystemExit: a signal, a stop file or the time limit asked to stop: saved, code 75.
    """
    comm = world()
    start = Start(fresh, overwrite, quiet, retry, tuple(accept), time_limit)
    return train(agree(comm, lambda: Settings.of(**settings)), comm, start)


def train(settings: Settings, comm: Communicator, start: Start = Start()) -> Result:  # noqa: B008  frozen
    """Train as the settings say; see fit(). Where ranks can outlive others, who lives goes on."""
    start = replace(start, ranks=comm.size)
    while True:
        run = keeper = display = None  # what an attempt held is let go before the next needs as much
        try:
            with started(settings, comm, start) as (run, keeper, display):
                first = run.progress.step
                _epochs(run, keeper, display)
                result = _finish(run, keeper, display, steps=run.progress.step - first)
                comm.confirm()  # all are done, so that none goes on without the others
                return result
        except RankLostError as error:
            if not comm.survives:
                raise
            comm = _survivors(settings, error)
            begun = run is not None
            start = replace(start, fresh=start.fresh and not begun, retry=True)
            settings = settings if run is None else run.settings


def _survivors(settings: Settings, error: RankLostError) -> Communicator:
    """The ranks that live; Stopped if they are too few."""
    comm = survivors(settings.watch.recover_within)
    for free in error.left:
        free()
    count, least = len(comm.lost), settings.watch.least_ranks
    died = f"rank{'s' * (count > 1)} {', '.join(map(str, comm.lost))} died, {comm.size} of {comm.size + count} live"
    enough = comm.size >= least
    if comm.rank == 0:
        what = "they go on" if enough else f"too few, as watch.least_ranks is {least}; the same command goes on"
        warning = f"warning: {died}: {what} from the last checkpoint"
        run_log.tell(warning)
        sys.stderr.write(f"{warning}\n")
        sys.stderr.flush()
    if not enough:
        raise Stopped(NOT_FINISHED)
    return comm


@contextmanager
def started(settings: Settings, comm: Communicator, start: Start) -> Iterator[tuple[Run, Keeper, Display]]:
    """A run at its first step or after its newest checkpoint, what keeps it, and what tells of it; collective."""
    run_log.start(folder=settings.out is not None)
    with together(comm):
        nodes = nodes_of(comm)
        earlier = None if start.fresh else from_rank_0(comm, peek, settings)
        settings = settled(settings, earlier, nodes, start.ranks or comm.size)
    with (
        together(comm),
        signals,
        blas_threads(settings.thread_count) as blas,
        np.errstate(over="ignore", invalid="ignore"),
        Watch(comm, settings.watch.warn_after, settings.watch.end_after),
        Run(settings, comm, blas, earlier) as run,
    ):
        shown = not start.quiet and comm.rank == 0
        with Display(shown, comm.rank == 0, settings.epochs, run.batches.steps, settings.loss.metrics) as display:
            run.introduce(display.say, nodes)
            with Keeper(run, start, earlier, display.say) as keeper:
                keep_freed_memory()  # not before: what the start has used is not needed again
                yield run, keeper, display


def _epochs(run: Run, keeper: Keeper, display: Display) -> None:
    """All epochs that are left."""
    run.comm.stages.begin()
    settings, progress, saving = run.settings, run.progress, run.settings.checkpoint
    while progress.epoch < settings.epochs and not progress.outcome:
        display.start_epoch(progress.epoch, progress.step_in_epoch)
        for examples in steps_of_epoch(run):
            display.after_step(examples, progress.totals)
            if settings.watch.due_after_step(progress.step):
                run.compare_nodes()
            if not run.at_end_of_epoch:
                _after_step(run, keeper)
        rate = display.rate()
        validation = run.evaluate(run.sources.validation)
        display.after_epoch(progress.after_epoch(validation, {settings.optimizer.length: run.length}), rate)
        _stop_early(run)
        if progress.epoch == settings.epochs or progress.outcome:
            break  # what is saved then is the finished run
        if (saving.best and progress.is_best) or saving.due_after_epoch(progress.epoch):
            keeper.save()
        _after_step(run, keeper)


def _after_step(run: Run, keeper: Keeper) -> None:
    """Save if it is time for that, and stop if a rank has asked for it."""
    keeper.after_step()
    if run.settings.checkpoint.due_after_step(run.progress.step):
        keeper.save()  # 7 checkpoint
    if run.objective.asked:
        raise keeper.stop()


def _stop_early(run: Run) -> None:
    """End the run if it has not become better for too many epochs."""
    rule, progress = run.settings.early_stopping, run.progress
    since = epochs_since_best(run.stops_by, progress.history[run.stops_by], rule.least_change)
    if rule.patience and since > rule.patience and not progress.outcome:
        progress.outcome = f"stopped early ({run.stops_by.replace('_', ' ')} was not better for {since} epochs)"


def steps_of_epoch(run: Run) -> Iterator[int]:
    """The steps that are left of an epoch, each with its number of examples; fewer if the optimizer cannot go on."""
    progress, batches, loader = run.progress, run.batches, run.loader(run.sources.train)
    order = run.order(progress.epoch)
    while not run.at_end_of_epoch and not progress.outcome:
        positions = batches.positions(progress.step_in_epoch)
        run.comm.stages.enter(stages.DATA)
        if not (run.objective.whole and run.objective.batch):
            run.objective.batch = loader.batch(order, positions)  # 1 data
        step(run, run.settings.epochs * batches.steps)  # 2 forward ... 6 optimizer
        yield len(positions)


def step(run: Run, total_steps: int) -> None:
    """One step on the current mini-batch: forward, loss, backward, allreduce, optimizer."""
    settings, progress = run.settings, run.progress
    factor = settings.schedule.factor(progress.step, total_steps, progress.costs)
    run.objective.step = progress.step
    taken = settings.optimizer.step(run.objective, run.weights, run.state, progress.step + 1, factor)
    if taken.outcome is Outcome.NOT_FINITE:
        raise NotFiniteError(
            f"the cost or its gradient is not finite at step {progress.step + 1} (epoch {progress.epoch + 1}, "
            f"cost {taken.evaluation.cost}); the weights before it are kept; {taken.reason}"
        )
    if taken.outcome not in (Outcome.GOES_ON, Outcome.SKIPPED):
        progress.outcome = f"{taken.outcome.value} ({taken.reason})" if taken.reason else taken.outcome.value
    if taken.outcome is Outcome.SKIPPED:
        progress.after_skipped_step(taken.evaluations)
    else:
        update_all(run.running, taken.evaluation.moments)
        progress.after_step(taken.evaluation.totals, taken.evaluations, taken.products)
    run.length = taken.length
    run.comm.stages.step = progress.step
    run.comm.stages.enter(stages.OTHER)


def _finish(run: Run, keeper: Keeper, display: Display, steps: int) -> Result:
    """The last checkpoint, the test, and where the time of so many steps went."""
    progress, failed = run.progress, ""
    if not progress.finished:
        progress.finished = True
        failed = keeper.finish()
    test = run.evaluate(run.sources.test)
    how = progress.outcome or "finished"
    message = f"{how}: {progress.epoch} epochs, {progress.step} steps in {duration(progress.elapsed)}"
    display.say(message)
    if steps:
        timing = Timing.gathered(run.comm, steps)
        keeper.write_beside("timing.csv", timing.table())
        display.say(str(timing))
    if test:
        display.say(f"test: {figures(test)}  ({len(run.sources.test or ()):,} examples)")
    keeper.end(failed, message)
    return Result(run.final_weights(), progress.history, test, progress.step)
