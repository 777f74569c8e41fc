"""dbp's side: whole runs of optimizers on one problem, cost against evaluations and time; or SciPy's on one rank."""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from dbp_versions import versions_of

from dbp.blas import blas_threads
from dbp.config.data import Data
from dbp.config.from_table import settings_from
from dbp.config.settings import Settings
from dbp.cost.mini_batch_cost import MiniBatchCost
from dbp.nn import Dense, Sequential
from dbp.parallel import world
from dbp.parallel.ranks.clock import Stage
from dbp.run.evaluation import evaluate
from dbp.run.run import Run
from dbp.saving.start import Start
from dbp.training import loop
from dbp.training.fit import start_run
from dbp.training.not_finite_policy import NotFinitePolicy

HEADER = 16  # bytes of an IDX file of images


def deep_autoencoder(images: Path, count: int) -> dict[str, Any]:
    """Return the problem of a 784-256-64-256-784 autoencoder on images, all in one mini-batch."""
    pixels = np.frombuffer(gzip.decompress(images.read_bytes()), np.uint8, offset=HEADER)
    x = pixels.reshape(-1, 784)[:count].astype(np.float64) / 255
    layers = [Dense(256, "tanh"), Dense(64, "tanh"), Dense(256, "tanh"), Dense(784)]
    return {"model": Sequential(*layers), "loss": "mean_squared_error", "data": (x, x)}


def digits_autoencoder() -> dict[str, Any]:
    """Return the problem of a 64-16-8-16-64 autoencoder on dbp's digits."""
    from dbp.data import HDF5Dataset

    digits = HDF5Dataset("dbp:digits-train", "inputs", "targets", None, None)
    x = digits.read(slice(0, len(digits))).inputs.reshape(len(digits), -1) * digits.scale
    layers = [Dense(16, "tanh"), Dense(8, "tanh"), Dense(16, "tanh"), Dense(64)]
    return {"model": Sequential(*layers), "loss": "mean_squared_error", "data": (x, x)}


def settings_of(problem: dict[str, Any], table: dict[str, Any]) -> Settings:
    """Return the settings of a run of the problem; the table holds the optimizer and other differences."""
    examples = len(problem["data"][0])
    some = settings_from(
        {"loss": problem["loss"], "model": {"layers": [{"kind": "dense", "units": 1}]}, "data": {"train": ""}}
        | COMMON
        | table
    )
    batch = table.get("batch_size") or examples
    return Settings.of(
        **{f: getattr(some, f) for f in KEPT}, **(problem | {"data": Data(problem["data"])}), batch_size=batch
    )


COMMON = {"epochs": 1, "batch_size": 1, "dtype": "float64", "shards": 2}
KEPT = ("optimizer", "epochs", "schedule", "dtype", "shards")


def points(run: Run, policy: NotFinitePolicy, seconds: float, passes: float) -> Iterator[dict[str, float]]:
    """Train until a limit of time, passes or epochs; yield a point after each epoch, whose evaluation is not timed.

    The cost is that over all examples: that of the last step where it was over all, else found anew.
    """
    used, done, progress = 0.0, 0.0, run.progress
    run.comm.clock.reset()
    while progress.epoch < run.settings.epochs and not progress.outcome and used < seconds and done < passes:
        start = time.perf_counter()
        for _ in loop.steps_of_epoch(run, policy):
            pass
        used += run.comm.broadcast(time.perf_counter() - start)
        cost = progress.totals.cost if run.objective.full_batch else evaluate(run, run.sources.train).values["cost"]
        progress.after_epoch({}, {})
        evaluations = progress.evaluations / run.batches.steps
        done = evaluations + progress.products
        yield {"cost": cost, "evaluations": evaluations, "products": progress.products, "seconds": used}


def own_run(settings: Settings, seconds: float, passes: float) -> dict[str, Any]:
    """Run dbp and return the points, and how the run ended."""
    with start_run(settings, world(), Start(fresh=True, quiet=True)) as (run, saver, display):
        found = list(points(run, NotFinitePolicy(run, saver, display.say), seconds, passes))
        clock = run.comm.clock
        clock.enter(clock.current)
        return {
            "points": found,
            "outcome": run.progress.outcome,
            "outside": clock.seconds[Stage.UPDATE],
            "weights": run.layout.size,
        }


def scipy_run(settings: Settings, iterations: int) -> dict[str, Any]:
    """Run SciPy's L-BFGS-B on the same cost from the same weights, in this process."""
    from scipy.optimize import minimize

    found: list[dict[str, float]] = []
    with start_run(settings, world(), Start(fresh=True, quiet=True)) as (run, _, _):
        on_batch = MiniBatchCost(run.objective, run.next_batch(), 0)
        start, inside, evaluations = time.perf_counter(), [0.0], [0]

        def cost(w: np.ndarray) -> tuple[float, np.ndarray]:
            begin = time.perf_counter()
            run.weights[:] = w
            evaluation = on_batch.value_and_gradient(run.weights)
            gradient = evaluation.gradient.astype(np.float64)
            inside[0], evaluations[0] = inside[0] + time.perf_counter() - begin, evaluations[0] + 1
            return evaluation.cost, gradient

        def note(intermediate_result: Any) -> None:
            found.append(
                {
                    "cost": float(intermediate_result.fun),
                    "evaluations": evaluations[0],
                    "products": 0,
                    "seconds": time.perf_counter() - start,
                }
            )

        options = {"maxiter": iterations, "maxfun": 10 * iterations, "ftol": 0.0, "gtol": 0.0, "maxcor": 10}
        ended = minimize(cost, run.weights.copy(), jac=True, method="L-BFGS-B", callback=note, options=options)
        seconds = time.perf_counter() - start
        return {"points": found, "outcome": ended.message, "outside": seconds - inside[0], "weights": run.layout.size}


def main() -> None:
    """Run what the command line names, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--examples", type=int, default=5000)
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--passes", type=float, default=float("inf"))
    parser.add_argument("--scipy", action="store_true")
    parser.add_argument("--runs", type=json.loads, help="tables of settings, by the name of the run")
    args = parser.parse_args()
    problem = deep_autoencoder(args.images, args.examples) if args.images else digits_autoencoder()
    comm, results = world(), {}
    with blas_threads(1):
        versions = versions_of(comm)
    if "scipy" in {table["optimizer"]["kind"] for table in args.runs.values()}:
        import scipy.optimize  # noqa: F401  which takes a second at its first import
    for name, table in args.runs.items():
        settings = settings_of(problem, {"epochs": args.iterations} | table)
        if args.scipy:
            results[name] = scipy_run(settings, args.iterations)
        else:
            results[name] = own_run(settings, args.seconds, args.passes)
    if args.out and comm.rank == 0:
        args.out.write_text(json.dumps({"versions": versions, "results": results}))


if __name__ == "__main__":
    main()
