"""Steps of many ranks that share few cores: time, barriers, memory and bits; to be started on any number of ranks."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cases import CASES, RANKS
from dbp_steps import in_training
from measure import Step
from node_memory import memory_of

import dbp
from dbp.checkpoint import digest_arrays
from dbp.parallel import Communicator, world
from dbp.run.run import Run

STEPS, BARRIERS = 10, 100  # that are timed


def median_ms(action: Callable[[], object], count: int) -> float:
    """Return the median milliseconds of a call."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def measured(step: Step, run: Run, comm: Communicator) -> dict[str, Any]:
    """Return what rank 0 has found after a number of steps that does not depend on the number of ranks."""
    step()
    found: dict[str, Any] = {"step": median_ms(step, STEPS)}
    comm.barrier()  # ranks update different parts of the weights
    found["bits"] = digest_arrays({"weights": run.weights})
    comm.barrier()
    found["node barrier"] = median_ms(comm.node.barrier, BARRIERS)
    found["MPI barrier"] = median_ms(comm.barrier, BARRIERS)
    processes = comm.gather(os.getpid())
    found["memory"] = memory_of(processes if comm.rank == 0 else [])["all"] / comm.size
    comm.barrier()
    return found


def main() -> None:
    """Measure, and write the results on rank 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--case", required=True)
    parser.add_argument("--shards", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True, help="a JSON file for the results")
    args, comm, results = parser.parse_args(), world(), dict[str, Any]()
    case = CASES[args.case]

    def action(step: Step, run: Run) -> None:
        results.update(measured(step, run, comm))

    in_training(case, comm, action, RANKS * case.batch, args.shards)
    if comm.rank == 0:
        versions = {"dbp": dbp.__version__, "numpy": np.__version__, "MPI": comm.description}
        args.out.write_text(json.dumps({"versions": versions, "results": results}))


if __name__ == "__main__":
    main()
