"""dbp's side of the comparison on CURVES: runs of optimizers, squared error of the training images against time."""

from __future__ import annotations

import argparse
import json
import runpy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from dbp_versions import versions_of

from dbp.blas import blas_threads
from dbp.config.from_table import settings_from
from dbp.config.settings import Settings
from dbp.parallel import world
from dbp.run.evaluation import evaluate
from dbp.run.run import Run
from dbp.saving.start import Start
from dbp.training import loop
from dbp.training.fit import start_run
from dbp.training.not_finite_policy import NotFinitePolicy

EXAMPLE = Path(__file__).parents[2] / "examples" / "curves.py"
POINTS = 60  # of a run, about; finding the error of all images counts for none of its time


def settings_of(table: dict[str, Any], examples: int) -> Settings:
    """Return the settings of a run.

    Args:
        table: the optimizer, and the batch size unless all images are one mini-batch.
        examples: the number of training images.
    """
    known = runpy.run_path(str(EXAMPLE))
    some = settings_from(
        {"loss": "mean_squared_error", "model": {"layers": [{"kind": "dense", "units": 1}]}, "data": {"train": ""}}
        | {"epochs": 1_000_000, "batch_size": examples}
        | table
    )
    images = known["curves"](examples, "train")
    return Settings.of(
        model=known["model"](),
        loss=known["Ink"](),
        metrics=[known["SQUARED_ERROR"]],
        data=(images, images),
        optimizer=some.optimizer,
        schedule=some.schedule,
        epochs=some.epochs,
        batch_size=min(some.batch_size, examples),
        shards=4,
    )


def points(run: Run, policy: NotFinitePolicy, seconds: float) -> Iterator[dict[str, float]]:
    """Train until a limit of time; yield points, the first at the start, whose evaluation is not timed."""
    progress, watch = run.progress, _Stopwatch(run)
    yield _point(run, watch)
    watch.go_on()
    due = seconds / POINTS
    while not progress.outcome and watch.seconds < seconds:
        for _ in loop.steps_of_epoch(run, policy):
            if watch.reaches(due) or progress.outcome:
                watch.pause()
                yield _point(run, watch)
                if watch.seconds >= seconds:
                    return
                due = watch.seconds + seconds / POINTS
                watch.go_on()
        if run.at_end_of_epoch:
            progress.after_epoch({}, {})


class _Stopwatch:
    """The time that training has taken: the same seconds on every rank, and processor seconds of all ranks together."""

    def __init__(self, run: Run):
        self._comm, self.seconds, self.cpu = run.comm, 0.0, 0.0

    def go_on(self) -> None:
        """Start to count again."""
        self._start, self._cpu_start = time.perf_counter(), time.process_time()

    def reaches(self, due: float) -> bool:
        """Return True if a time has come; collective."""
        return bool(self._comm.broadcast(self.seconds + time.perf_counter() - self._start >= due))

    def pause(self) -> None:
        """Stop counting; collective."""
        self.seconds += self._comm.broadcast(time.perf_counter() - self._start)
        self.cpu += sum(self._comm.gather(time.process_time() - self._cpu_start))


def _point(run: Run, watch: _Stopwatch) -> dict[str, float]:
    """Return the errors of all training images now, and what it took to come to them."""
    progress, values = run.progress, evaluate(run, run.sources.train).values
    return {
        "seconds": watch.seconds,
        "cpu": watch.cpu,
        "squared_error": values["squared_error"],
        "cost": values["cost"],
        "steps": progress.step,
        "evaluations": progress.evaluations,
        "products": progress.products,
    }


def main() -> None:
    """Run what the command line names, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--examples", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--run", type=json.loads, help="the settings of the run")
    parser.add_argument("--start", type=Path, help="write images and initial weights to this file, and train nothing")
    args = parser.parse_args()
    comm, settings = world(), settings_of(args.run, args.examples)
    with blas_threads(1):
        versions = versions_of(comm)
    with start_run(settings, comm, Start(fresh=True, quiet=True)) as (run, saver, display):
        if args.start:
            images = run.sources.train.read(slice(0, args.examples)).inputs
            np.savez(args.start, images=images, **run.layout.views(run.weights))
            return
        found = list(points(run, NotFinitePolicy(run, saver, display.say), args.seconds))
    if args.out and comm.rank == 0:
        args.out.write_text(json.dumps({"versions": versions, "points": found, "outcome": run.progress.outcome}))


if __name__ == "__main__":
    main()
