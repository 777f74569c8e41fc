"""The training loop.

Each step takes a mini-batch through seven stages:

1. data: this rank's shards of the mini-batch are read (run/run.py, reading/loader.py);
2. forward, 3. loss, 4. backward: the gradient of each shard, written to a buffer of a GradientSum
   (cost/mini_batch_cost.py);
5. sum: GradientSum adds up the shards of all ranks to the gradient of the full cost (parallel/sums/gradients.py);
6. update: each owner of a part of the weights writes it (optim/);
7. checkpoint: the state of the run is copied, and written while training continues (saving/saver.py).

An optimizer may repeat 2 to 5 within a step, as line searches do. So these four lie below step(). Between
nodes 4, 5 and 6 overlap: parts of the last shard's gradient are sent while backward computes the rest, and the update
may begin with the parts of the sum that have arrived.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from dbp.cost.mini_batch import ExampleSums
from dbp.cost.mini_batch_cost import Evaluation, MiniBatchCost
from dbp.errors import PassStoppedError
from dbp.optim import Outcome, Step
from dbp.parallel import Stage, check_nodes_agree
from dbp.reading.shard import Batch
from dbp.run.evaluation import describe_not_finite, evaluate
from dbp.run.progress import STOPPED_BY_LISTENER, STOPPED_EARLY, VALIDATION_TABLES, Progress
from dbp.run.run import Run
from dbp.saving.saver import RunSaver
from dbp.text import count_text
from dbp.training.display import Display
from dbp.training.loss_check import check_own_loss
from dbp.training.not_finite_policy import NotFinitePolicy

if TYPE_CHECKING:  # only runs with listeners or a trace load these
    from dbp.training.events import RunEvents
    from dbp.training.trace import Trace


def train_epochs(
    run: Run, saver: RunSaver, display: Display, events: RunEvents | None = None, trace: Trace | None = None
) -> int:
    """Train all epochs that are left, and return how many steps that took.

    Args:
        run: the run.
        saver: of the run.
        display: of the run.
        events: for the listeners; None if there are none.
        trace: records some of the steps; None for none.
    """
    run.comm.clock.reset()
    settings, progress = run.settings, run.progress
    check_own_loss(run)
    steps, policy = 0, NotFinitePolicy(run, saver, display.say)
    policy.begin()
    while progress.epoch < settings.epochs and not progress.outcome:
        display.start_epoch(progress.epoch, progress.step_in_epoch)
        of_epoch = steps_of_epoch(run, policy)
        for taken in of_epoch if trace is None else trace.follow(of_epoch):
            steps += 1
            display.after_step(taken.examples, progress.totals)
            if events is not None:
                events.after_step(taken.examples, taken.totals)
            if settings.watch.due_after_step(progress.step):
                check_nodes_agree(run.arena, run.weights, run.progress.step)
            if not run.at_end_of_epoch:
                _save_or_stop(run, saver, events)
        if run.at_end_of_epoch or _has_converged(progress):  # else it has rolled back, or a listener has stopped it
            _end_epoch(run, saver, display, events)
    if trace is not None:
        trace.write()
    return steps


class Taken(NamedTuple):
    """A step that is done.

    Args:
        examples: of its mini-batch.
        totals: sums over them.
    """

    examples: int
    totals: ExampleSums


def steps_of_epoch(run: Run, policy: NotFinitePolicy) -> Iterator[Taken]:
    """Take the steps that are left of an epoch, and yield each.

    There are fewer if the optimizer cannot continue, or if the run rolls back to a checkpoint.
    """
    progress, batches = run.progress, run.batches
    while not run.at_end_of_epoch and not progress.outcome:
        examples = len(batches.positions(progress.step_in_epoch))
        run.comm.clock.enter(Stage.DATA)
        batch = run.next_batch()  # 1 data
        taken = step(run, batch, run.schedule_steps)  # 2 forward ... 6 update
        if taken.done:
            record_step(run, taken)
        elif not policy.handle(taken, batch):
            return
        run.comm.clock.step = progress.step
        run.comm.clock.enter(Stage.OTHER)
        yield Taken(examples, taken.evaluation.totals)


def step(run: Run, batch: Batch, total_steps: int) -> Step[Evaluation]:
    """Take one step on a mini-batch: the optimizer asks for cost and gradient (2 to 5), and updates the weights (6).

    Running moments are updated with the weights.

    Args:
        run: the run.
        batch: this rank's shards of the mini-batch.
        total_steps: steps up to the end of the schedule.
    """
    settings, progress = run.settings, run.progress
    schedule = settings.schedule
    values = progress.to_minimize(run.schedule_by) if schedule.uses_costs else ()
    factor = schedule.factor(progress.step, total_steps, values) * progress.not_finite.rate_factor
    cost = MiniBatchCost(run.objective, batch, progress.step)
    taken = settings.optimizer.step(cost, run.weights, run.state, progress.updates + 1, factor)
    if taken.done and run.running:
        run.update_moments(taken.evaluation.moments)
    return taken


def record_step(run: Run, taken: Step[Evaluation]) -> None:
    """Record a step that updated the weights in the progress of the run, and whether the optimizer can continue."""
    progress = run.progress
    if taken.outcome is not Outcome.CONTINUES:
        progress.outcome = f"{taken.outcome.value} ({taken.reason})" if taken.reason else taken.outcome.value
    progress.after_step(taken.evaluation.totals, taken.evaluations, taken.products)
    progress.length = float(taken.length)


def _has_converged(progress: Progress) -> bool:
    """Return True if the optimizer cannot continue, so that the epoch ends here."""
    return bool(progress.outcome) and not progress.outcome.startswith(STOPPED_BY_LISTENER)


def _save_or_stop(run: Run, saver: RunSaver, events: RunEvents | None) -> None:
    """Save if a checkpoint is due, and stop if any rank, or a listener, has asked for it."""
    saver.note_step_time()
    if run.settings.checkpoint.due_after_step(run.progress.step):
        run.progress.not_finite.mark_checkpoint(run.progress.step)
        saver.save()  # 7 checkpoint
    if run.objective.stop_requested and not (events is not None and events.settle()):
        raise saver.stop()


def _end_epoch(run: Run, saver: RunSaver, display: Display, events: RunEvents | None) -> None:
    """Validate, report and save at the end of an epoch. The last epoch is saved later, with the finished run."""
    settings, progress = run.settings, run.progress
    rate = display.rate()
    if events is not None:
        events.settle()  # before the evaluation, which a pending answer would cut short
    try:
        validation, _, tables, _ = evaluate(run, run.sources.validation)
        _warn_of_validation(run, validation, display)
    except PassStoppedError:  # the next start evaluates first
        raise saver.stop() from None
    progress.tables = {f"{VALIDATION_TABLES}{name}": table for name, table in tables.items()}
    row = progress.after_epoch(validation, {settings.optimizer.length_name: progress.length})
    display.after_epoch(row, progress.is_best, rate)
    if progress.is_best:
        saver.take_best()
    _stop_early(run)
    if events is not None:
        events.after_epoch(row)
    due = settings.checkpoint.due_after_epoch(progress.epoch)
    if due:
        progress.not_finite.mark_checkpoint(progress.step)
    if progress.epoch < settings.epochs and not progress.outcome:
        if due:
            saver.save()  # 7 checkpoint; a second save() of the same step does nothing
        _save_or_stop(run, saver, events)


def _warn_of_validation(run: Run, values: Mapping[str, float], display: Display) -> None:
    """Say which examples have spoiled the validation cost, the first time that it is not finite; collective."""
    data, earlier = run.sources.validation, run.progress.history.get("validation_cost", [])
    if data is None or math.isfinite(values["cost"]) or not all(map(math.isfinite, earlier)):
        return
    display.say(
        f"warning: the validation cost of epoch {run.progress.epoch + 1} is {values['cost']}: "
        f"{describe_not_finite(run, data)}; such a cost counts neither as the best nor for early stopping and plateau"
    )


def _stop_early(run: Run) -> None:
    """End the run if the cost or metric has not improved for as many epochs as early_stopping allows."""
    progress = run.progress
    if run.is_stale and not progress.outcome:
        since, column = count_text(run.epochs_since_best, "epoch"), progress.best_by.replace("_", " ")
        progress.outcome = f"{STOPPED_EARLY} ({column} was not better for {since})"
