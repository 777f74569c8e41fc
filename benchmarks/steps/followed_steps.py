"""Steps of dbp.fit with ten metrics, TensorBoard's log and a listener, beside those without; started on two ranks.

Both runs take turns in one process, some steps each, so that what disturbs one disturbs the other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cases import Case
from dbp_steps import settings_of
from dbp_versions import versions_of
from measure import Report, Step, Watch, repetition, take_first_steps

import dbp
from dbp.blas import blas_threads
from dbp.config.settings import Log, Settings
from dbp.listeners import Listener
from dbp.metrics import as_metrics
from dbp.parallel import Communicator, world
from dbp.saving.start import Start
from dbp.training import loop
from dbp.training.events import RunEvents
from dbp.training.fit import start_run

PLAIN, FOLLOWED = "plain", "followed"
METRICS = (  # of sums, so that each step takes them
    "accuracy",
    "balanced_accuracy",
    "log_loss",
    "precision",
    "recall",
    "f1",
    {"kind": "f1", "average": "micro"},
    {"kind": "f1", "average": "weighted"},
    {"kind": "top_k", "k": 2},
    {"kind": "top_k", "k": 3},
)


def followed(settings: Settings, folder: Path) -> Settings:
    """Return settings with all that is to cost next to nothing."""
    return dataclasses.replace(settings, out=str(folder), log=Log(tensorboard=True), metrics=as_metrics(METRICS))


@contextlib.contextmanager
def steps_of(settings: Settings, comm: Communicator, costs: list[float]) -> Iterator[Step]:
    """Yield the step of a run; if it has a folder, with its logs and a listener that keeps costs."""

    def keep(event: dbp.listeners.Event) -> None:
        if isinstance(event, dbp.listeners.Step):
            costs.append(event.values["cost"])

    with (
        start_run(settings, comm, Start(fresh=True, quiet=True)) as (run, saver, display),
        contextlib.ExitStack() as on,
    ):
        batch = run.next_batch()
        events = None
        if settings.out is not None:
            events = on.enter_context(RunEvents(run, saver, display.say, [Listener(keep, every=10)]))

        def step() -> None:
            taken = loop.step(run, batch, total_steps=1_000_000)
            loop.record_step(run, taken)
            if events is not None:
                events.after_step(len(batch), taken.evaluation.totals)

        yield step


def compare(case: Case, comm: Communicator, folder: Path, repeats: int) -> dict[str, dict[str, float | None]]:
    """Return the times of a step without and with all that, and the median of their ratios."""
    settings = settings_of(case, case.batch * comm.size)
    with steps_of(settings, comm, []) as plain, steps_of(followed(settings, folder), comm, []) as with_all:
        take_first_steps(plain)
        take_first_steps(with_all)
        watch = Watch(comm)
        pairs = [[repetition(step, case.steps, comm) for step in (plain, with_all)] for _ in range(repeats)]
        others = watch.others()
    ratio = statistics.median(b / a for a, b in pairs)
    times = {
        name: statistics.median(column) * 1e3
        for name, column in zip((PLAIN, FOLLOWED), zip(*pairs, strict=True), strict=True)
    }
    return {name: {"ms": ms, "others": others, "ratio": ratio} for name, ms in times.items()}


def main() -> None:
    """Compare each case in turn."""
    report, comm = Report(__doc__), world()
    with blas_threads(1), tempfile.TemporaryDirectory() as own:
        folder = Path(comm.broadcast(own))
        report.versions = versions_of(comm)
        for name, case in report.cases.items():
            for variant, row in compare(case, comm, folder / name, report.args.repeats).items():
                report.results.setdefault(variant, {})[name] = row
        comm.barrier()
    report.write(comm)


if __name__ == "__main__":
    main()
