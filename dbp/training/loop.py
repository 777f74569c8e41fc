"""The training loop: the seven stages in order, from a mini-batch's examples to a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dbp.config.settings import Settings
from dbp.cost.examples import Batch
from dbp.cost.objective import Evaluation
from dbp.job import job_and_time
from dbp.log import run_log
from dbp.nn import update_running_moments
from dbp.optim import Outcome, Step
from dbp.parallel import (
    Communicator,
    RankLostError,
    Watch,
    agree,
    blas_threads,
    from_rank_0,
    keep_freed_memory,
    nodes_of,
    together,
    world,
)
from dbp.parallel.ranks import clock as stages
from dbp.run.progress import epochs_since_best
from dbp.run.snapshot import Snapshot
from dbp.run.state import Run
from dbp.saving.resume import Start, in_job, peek, settled
from dbp.saving.saver import RunSaver
from dbp.saving.stopping import signals
from dbp.text import duration, figures, parse_limit
from dbp.training.display import Display
from dbp.training.recovery import recover
from dbp.training.rollback import NonFinitePolicy
from dbp.training.timing import Timing
from dbp.types import Array


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
    time_limit: float | str | None = None,
    **settings: Any,
) -> Result:
    """Train, on all ranks of this job, or go on with the training that the folder `out` holds.

    Args:
        fresh: start anew; the checkpoints of an earlier run in `out` are moved aside.
        overwrite: with fresh, delete those checkpoints instead.
        quiet: print nothing.
        retry: start although the run has ended before its next checkpoint again and again.
        accept: settings that may differ from those of the checkpoint, such as "optimizer.learning_rate".
        time_limit: seconds after the start of the process until which it is to have stopped, or "4:00:00"; "auto" for
            what the batch job has left.
        settings: those of Settings: model, loss, data, optimizer, epochs, batch_size, ...

    Raises:
        UserError: a setting, the data or a checkpoint breaks a rule; told once and the same on every rank.
        SystemExit: a signal, a stop file or the time limit asked to stop: saved, code 75.
    """
    comm = world()
    limit = agree(comm, parse_limit, time_limit) if isinstance(time_limit, str) else time_limit
    start = Start(fresh, overwrite, quiet, retry, tuple(accept), limit)
    return train(agree(comm, lambda: Settings.of(**settings)), comm, start)


def train(settings: Settings, comm: Communicator, start: Start = Start()) -> Result:  # noqa: B008  frozen
    """Train as the settings say; see fit(). Where ranks can outlive others, who lives goes on."""
    settings, start = in_job(settings, replace(start, ranks=comm.size), *from_rank_0(comm, job_and_time))
    snapshot = None
    while True:
        run = saver = display = None  # what an attempt held is let go before the next needs as much
        try:
            with started(settings, comm, start, snapshot) as (run, saver, display):
                steps = _epochs(run, saver, display)
                result = _finish(run, saver, display, steps)
                comm.confirm()  # all are done, so that none goes on without the others
                return result
        except RankLostError as error:
            if not comm.survives:
                raise
            comm, snapshot = recover(settings.watch, error, run, snapshot)
            begun = run is not None
            start = replace(start, fresh=start.fresh and not begun, retry=True)
            settings = settings if run is None else run.settings


@contextmanager
def started(
    settings: Settings, comm: Communicator, start: Start, snapshot: Snapshot | None = None
) -> Iterator[tuple[Run, RunSaver, Display]]:
    """A run at its first step, after its newest checkpoint or where snapshot has it; what keeps it; what tells of it.

    Collective.
    """
    run_log.start(folder=settings.out is not None)
    with together(comm):
        nodes = nodes_of(comm)
        snapshot = snapshot if from_rank_0(comm, lambda: snapshot is not None) else None
        info = None if start.fresh or snapshot is not None else from_rank_0(comm, peek, settings)
        settings = settled(settings, info, nodes, start.ranks or comm.size)
    with (
        together(comm),
        signals,
        blas_threads(settings.thread_count) as blas,
        np.errstate(over="ignore", invalid="ignore"),
        Watch(comm, settings.watch.warn_after, settings.watch.end_after),
        Run(settings, comm, blas, restored=info is not None or snapshot is not None) as run,
    ):
        shown = not start.quiet and comm.rank == 0
        with Display(shown, comm.rank == 0, settings.epochs, run.batches.steps, settings.loss.metrics) as display:
            run.introduce(display.say, nodes, start.told)
            with RunSaver(run, start, info, snapshot, display.say) as saver:
                keep_freed_memory()  # not before: what the start has used is not needed again
                yield run, saver, display


def _epochs(run: Run, saver: RunSaver, display: Display) -> int:
    """All epochs that are left; gives how many steps were done."""
    run.comm.stages.begin()
    settings, progress, saving = run.settings, run.progress, run.settings.checkpoint
    steps, policy = 0, NonFinitePolicy(run, saver, display.say)
    policy.begin()
    while progress.epoch < settings.epochs and not progress.outcome:
        display.start_epoch(progress.epoch, progress.step_in_epoch)
        for examples in steps_of_epoch(run, policy):
            steps += 1
            display.after_step(examples, progress.totals)
            if settings.watch.due_after_step(progress.step):
                run.compare_nodes()
            if not run.at_end_of_epoch:
                _after_step(run, saver)
        if not (run.at_end_of_epoch or progress.outcome):
            continue  # from the checkpoint that the run has rolled back to
        rate = display.rate()
        validation = run.evaluate(run.sources.validation)
        display.after_epoch(progress.after_epoch(validation, {settings.optimizer.length: progress.length}), rate)
        _stop_early(run)
        if due := (saving.best and progress.is_best) or saving.due_after_epoch(progress.epoch):
            progress.not_finite.mark_checkpoint(progress.step)
        if progress.epoch == settings.epochs or progress.outcome:
            break  # what is saved then is the finished run
        if due:
            saver.save()
        _after_step(run, saver)
    return steps


def _after_step(run: Run, saver: RunSaver) -> None:
    """Save if it is time for that, and stop if a rank has asked for it."""
    saver.after_step()
    if run.settings.checkpoint.due_after_step(run.progress.step):
        run.progress.not_finite.mark_checkpoint(run.progress.step)
        saver.save()  # 7 checkpoint
    if run.objective.stop_requested:
        raise saver.stop()


def _stop_early(run: Run) -> None:
    """End the run if it has not become better for too many epochs."""
    rule, progress = run.settings.early_stopping, run.progress
    since = epochs_since_best(run.stops_by, progress.history[run.stops_by], rule.least_change)
    if rule.patience and since > rule.patience and not progress.outcome:
        progress.outcome = f"stopped early ({run.stops_by.replace('_', ' ')} was not better for {since} epochs)"


def steps_of_epoch(run: Run, policy: NonFinitePolicy) -> Iterator[int]:
    """The steps that are left of an epoch, each with its number of examples.

    They are fewer if the optimizer cannot go on, or if the run rolls back to a checkpoint.
    """
    progress, batches = run.progress, run.batches
    while not run.at_end_of_epoch and not progress.outcome:
        examples = len(batches.positions(progress.step_in_epoch))
        run.comm.stages.enter(stages.DATA)
        batch = run.next_batch()  # 1 data
        taken = step(run, batch, run.settings.epochs * batches.steps)  # 2 forward ... 6 update
        if taken.done:
            count(run, taken)
        elif not policy.handle(taken, batch):
            return
        run.comm.stages.step = progress.step
        run.comm.stages.enter(stages.OTHER)
        yield examples


def step(run: Run, batch: Batch, total_steps: int) -> Step[Evaluation]:
    """Take one step on a mini-batch.

    The optimizer asks the cost for its gradient, one or more times: 2 forward, 3 loss, 4 backward (cost/objective.py)
    and 5 sum over all ranks (parallel/sums/gradients.py). Then it writes new weights: 6 update (optim/).
    """
    settings, progress = run.settings, run.progress
    factor = settings.schedule.factor(progress.step, total_steps, progress.costs) * progress.not_finite.rate_factor
    cost = run.objective.on(batch, progress.step)
    return settings.optimizer.step(cost, run.weights, run.state, progress.updates + 1, factor)


def count(run: Run, taken: Step[Evaluation]) -> None:
    """Count a step that updated the weights, and note if the optimizer cannot go on."""
    progress = run.progress
    if taken.outcome is not Outcome.GOES_ON:
        progress.outcome = f"{taken.outcome.value} ({taken.reason})" if taken.reason else taken.outcome.value
    update_running_moments(run.running, taken.evaluation.moments)
    progress.after_step(taken.evaluation.totals, taken.evaluations, taken.products)
    progress.length = float(taken.length)


def _finish(run: Run, saver: RunSaver, display: Display, steps: int) -> Result:
    """The last checkpoint, the test, and where the time of so many steps went."""
    progress, failed = run.progress, ""
    if not progress.finished:
        progress.finished = True
        failed = saver.finish()
    test = run.evaluate(run.sources.test)
    how = progress.outcome or "finished"
    message = f"{how}: {progress.epoch} epochs, {progress.step} steps in {duration(progress.elapsed)}"
    display.say(message)
    if steps:
        timing = Timing.gathered(run.comm, steps)
        saver.write_beside("timing.csv", timing.table())
        display.say(str(timing))
    if test:
        display.say(f"test: {figures(test)}  ({len(run.sources.test or ()):,} examples)")
    saver.end(failed, message)
    return Result(run.final_weights(), progress.history, test, progress.step)
