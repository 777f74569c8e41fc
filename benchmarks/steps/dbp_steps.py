"""dbp's side: the step that dbp.fit repeats, on one mini-batch in memory; to be started on two ranks."""

from __future__ import annotations

import cProfile
import io
import pstats
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from cases import CASES, CLASSES, Case, Layer
from measure import Report, Step, take_first_steps

import dbp
from dbp import nn, objective, optim, train
from dbp.data import Order
from dbp.parallel import Arena, Communicator, Reduction, SharedReduction, blas_threads, world
from dbp.run import Run
from dbp.settings import Settings


def layer_of(layer: Layer) -> nn.Layer:
    """The layer in dbp's words."""
    activation = "relu" if layer.relu else "linear"
    if layer.kind == "dense":
        return nn.Dense(layer.size, activation)
    if layer.kind == "conv":
        return nn.Conv2d(layer.size, 3, activation, padding=layer.padding)
    return nn.MaxPool2d(2) if layer.kind == "pool" else nn.Flatten()


def settings_of(case: Case, ranks: int) -> Settings:
    """A run whose data is one mini-batch."""
    rng = np.random.default_rng(0)
    examples = case.batch * ranks
    inputs = rng.standard_normal((examples, *case.shape), np.float32)
    return Settings.of(
        model=[layer_of(layer) for layer in case.network],
        loss="mean_squared_error" if case.autoencoder else "cross_entropy",
        data=(inputs, inputs if case.autoencoder else rng.integers(CLASSES, size=examples)),
        optimizer=optim.Adam(1e-3) if case.adam else optim.SGD(0.01, momentum=0.9),
        epochs=1,
        batch_size=examples,
    )


def in_training(case: Case, comm: Communicator, action: Callable[[Step, Run], None]) -> None:
    """Call action(step, run) with the step of a run that dbp.fit would begin."""
    with train.started(settings_of(case, comm.size), comm, fresh=True, quiet=True) as (run, _):
        data = run.sources.train
        order = Order(len(data), run.settings.seed, "order of examples", 0)
        run.objective.batch = run.loader(data).batch(order, range(len(data)))
        action(lambda: train.step(run, total_steps=1_000_000), run)


# --- where the time goes --------------------------------------------------------------------------------


class Stages:
    """Time by stage; a stage within another counts only for itself."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = [0.0]  # seconds spent in stages within the current one

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose time counts for the stage."""

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                elapsed = time.perf_counter() - start
                self.seconds[stage] = self.seconds.get(stage, 0.0) + elapsed - self._inner.pop()
                self._inner[-1] += elapsed

        return wrapper

    @contextmanager
    def watching(self, run: Run) -> Iterator[None]:
        """Have the functions of dbp that do a stage's work timed."""
        places = [
            ("forward and loss", objective.Objective, "_losses"),
            ("backward", objective, "pullback"),
            ("loss and metric sums", objective.Objective, "_sums"),
            ("reduction", Reduction, "total"),
            ("reduction", SharedReduction, "total"),
            ("waiting for other ranks", type(run.comm), "barrier"),
            ("waiting for other ranks", Arena, "fence"),
            ("update", type(run.settings.optimizer), "update"),
        ]
        originals = [(owner, name, getattr(owner, name)) for _, owner, name in places]
        try:
            for stage, owner, name in places:
                setattr(owner, name, self.timed(stage, getattr(owner, name)))
            yield
        finally:
            for owner, name, function in originals:
                setattr(owner, name, function)


def profile(name: str, case: Case, step: Step, run: Run) -> None:
    """Print, on rank 0, the time of a step by stage and by function."""
    take_first_steps(step)
    stages = Stages()
    with stages.watching(run):
        _repeat(stages.timed("the rest", step), case.steps)
    profiler = cProfile.Profile()
    profiler.runcall(_repeat, step, case.steps)
    if run.comm.rank == 0:
        functions = io.StringIO()
        pstats.Stats(profiler, stream=functions).strip_dirs().sort_stats("tottime").print_stats(15)
        sys.stdout.write(
            f"{name}: a step of rank 0 of {run.comm.size}, by stage\n\n{_stage_table(stages, case.steps)}\n"
            f"by function, {case.steps} steps, slowed down by the profiler\n{functions.getvalue()}"
        )


def _repeat(step: Step, steps: int) -> None:
    for _ in range(steps):
        step()


def _stage_table(stages: Stages, steps: int) -> str:
    total = sum(stages.seconds.values())
    rows = [(stage, seconds) for stage, seconds in stages.seconds.items() if stage != "the rest"]
    rows += [("the rest", stages.seconds["the rest"]), ("all", total)]
    return "".join(f"{stage:24s} {s / steps * 1e3:9.3f} ms  {s / total:6.1%}\n" for stage, s in rows)


def main() -> None:
    """Measure, or profile, each case in turn."""
    report, comm = Report(__doc__), world()
    with blas_threads(1) as blas:
        report.versions = {"dbp": dbp.__version__, "numpy": np.__version__, "MPI": comm.description, "numpy BLAS": blas}
    if report.args.memory:
        in_training(CASES["mlp-small"], comm, lambda step, _run: take_first_steps(step))
    report.start_counting_memory()
    for name, case in report.cases.items():

        def action(step: Step, run: Run, name: str = name, case: Case = case) -> None:
            if report.args.profile:
                profile(name, case, step, run)
            else:
                report.add("dbp", name, step, comm)

        in_training(case, comm, action)
    report.write(comm)


if __name__ == "__main__":
    main()
