"""dbp's side: the step that dbp.fit repeats, on one mini-batch in memory; to be started on two ranks."""

from __future__ import annotations

import cProfile
import io
import pstats
import sys
from collections.abc import Callable

import numpy as np
from cases import CASES, CLASSES, TOKENS, Case
from dbp_layers import layers_of
from dbp_versions import versions_of
from measure import Report, Step, take_first_steps

from dbp import optim
from dbp.autodiff.blocks.dense import GRADIENT_ELEMENTS
from dbp.blas import blas_threads
from dbp.config.settings import Settings
from dbp.parallel import Communicator, world
from dbp.parallel.ranks.clock import Stage
from dbp.parallel.vectors.deal import BUCKET
from dbp.run.run import Run
from dbp.saving.start import Start
from dbp.training import loop
from dbp.training.fit import start_run


def data_of(case: Case, examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs and targets of one mini-batch."""
    rng = np.random.default_rng(0)
    if case.language:
        tokens = rng.integers(TOKENS, size=(examples, case.shape[0] + 1))
        return tokens[:, :-1], tokens[:, 1:]
    inputs = rng.standard_normal((examples, *case.shape), np.float32)
    return inputs, inputs if case.autoencoder else rng.integers(CLASSES, size=examples)


def settings_of(case: Case, examples: int, shards: int | None = None) -> Settings:
    """Return the settings of a run whose data is one mini-batch."""
    return Settings.of(
        model=layers_of(case.network),
        loss="mean_squared_error" if case.autoencoder else "cross_entropy",
        data=data_of(case, examples),
        optimizer=optim.Adam(1e-3) if case.adam else optim.SGD(0.01, momentum=0.9),
        epochs=1,
        batch_size=examples,
        shards=shards,
    )


def in_training(
    case: Case,
    comm: Communicator,
    action: Callable[[Step, Run], None],
    examples: int = 0,
    shards: int | None = None,
) -> None:
    """Call action(step, run) with the step of a run that dbp.fit would begin.

    Args:
        case: the network, and how it is trained.
        comm: the ranks.
        action: what is to be done.
        examples: of a step; by default as many as the case says.
        shards: of a step; by default one per rank.
    """
    settings = settings_of(case, examples or case.batch * comm.size, shards)
    with start_run(settings, comm, Start(fresh=True, quiet=True)) as (run, _, _):
        batch = run.next_batch()
        action(lambda: loop.record_step(run, loop.step(run, batch, total_steps=1_000_000)), run)


# --- where the time goes --------------------------------------------------------------------------------


def seconds_by_stage(comm: Communicator, steps: int) -> dict[str, float]:
    """Return the seconds of each stage in a step of this rank, since its clock was reset."""
    comm.clock.enter(comm.clock.current)
    return {stage.label: comm.clock.seconds[stage] / max(steps, 1) for stage in Stage}


def profile(name: str, case: Case, step: Step, run: Run) -> None:
    """Print, on rank 0, the time of a step by stage and by function."""
    take_first_steps(step)
    run.comm.clock.reset()
    _repeat(step, case.steps)
    stages = seconds_by_stage(run.comm, case.steps)
    profiler = cProfile.Profile()
    profiler.runcall(_repeat, step, case.steps)
    if run.comm.rank == 0:
        functions = io.StringIO()
        pstats.Stats(profiler, stream=functions).strip_dirs().sort_stats("tottime").print_stats(15)
        sys.stdout.write(
            f"{name}: a step of rank 0 of {run.comm.size}, by stage\n\n{_stage_table(stages)}\n"
            f"by function, {case.steps} steps, slowed down by the profiler\n{functions.getvalue()}"
        )


def _repeat(step: Step, steps: int) -> None:
    for _ in range(steps):
        step()


def _stage_table(stages: dict[str, float]) -> str:
    total = sum(stages.values())
    rows = [(stage, seconds) for stage, seconds in stages.items() if seconds] + [("all", total)]
    return "".join(f"{stage:12s} {s * 1e3:9.3f} ms  {s / total:6.1%}\n" for stage, s in rows)


def add(report: Report, name: str, step: Step, run: Run) -> None:
    """Measure the step of a case, and its stages."""
    comm, first, last_bucket = run.comm, run.progress.step, max(0, run.layout.size - BUCKET)
    comm.clock.reset()
    report.add("dbp", name, step, comm)
    report.results["dbp"][name] |= {
        "stages": seconds_by_stage(comm, run.progress.step - first),
        "parameters": run.layout.size,
        "last": min(
            run.layout.size - max(start for start in [0, *run.layout.ends] if start <= last_bucket),
            BUCKET + GRADIENT_ELEMENTS,
        ),
    }


def main() -> None:
    """Measure, or profile, each case in turn."""
    report, comm = Report(__doc__), world()
    with blas_threads(1):
        report.versions = versions_of(comm)
    if report.args.memory:
        in_training(CASES["mlp-small"], comm, lambda step, _run: take_first_steps(step))
    report.start_counting_memory()
    for name, case in report.cases.items():

        def action(step: Step, run: Run, name: str = name, case: Case = case) -> None:
            if report.args.profile:
                profile(name, case, step, run)
            else:
                add(report, name, step, run)

        in_training(case, comm, action, report.args.examples)
    report.write(comm)


if __name__ == "__main__":
    main()
