"""The cost of checkpoints on ranks: steps with and without a checkpoint being written, and resuming from one."""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import threading
import time
from pathlib import Path
from typing import Any

from cases import large_case
from dbp_steps import settings_of
from measure import take_first_steps

import dbp
from dbp.checkpoint.writer_thread import WRITER_THREAD
from dbp.config.settings import Checkpoint, Settings
from dbp.parallel import Communicator, world
from dbp.run.run import Run
from dbp.saving.saver import RunSaver
from dbp.saving.start import Start
from dbp.training import loop
from dbp.training.fit import start_run

ALONE = 20  # steps without a checkpoint between two with one
FOREVER = 1_000_000  # steps


def settings(parameters: int, batch: int, folder: Path) -> Settings:
    """Return the settings of a run with Adam, so that a checkpoint has three vectors."""
    plain = settings_of(dataclasses.replace(large_case(parameters), batch=batch), batch)
    return dataclasses.replace(plain, out=str(folder), checkpoint=Checkpoint(keep=2))


def timed(comm: Communicator, action: Any) -> float:
    """Return the seconds that a function takes on the slowest rank."""
    comm.barrier()
    start = time.perf_counter()
    action()
    return max(comm.gather(time.perf_counter() - start))


def _writing() -> bool:
    """Return True while this rank's thread writes a checkpoint."""
    return any(thread.name == WRITER_THREAD for thread in threading.enumerate())


def saves(run: Run, saver: RunSaver, count: int) -> dict[str, Any]:
    """Measure steps, saves, and the steps during which checkpoints are written."""
    alone: list[float] = []
    stalls: list[float] = []
    beside: list[float] = []
    written: list[float] = []

    batch = run.next_batch()

    def step() -> None:
        loop.record_step(run, loop.step(run, batch, FOREVER))

    take_first_steps(step)
    for _ in range(count):
        alone += [timed(run.comm, step) for _ in range(ALONE)]
        start = time.perf_counter()
        stalls.append(timed(run.comm, saver.save))
        while run.comm.broadcast(_writing()):
            beside.append(timed(run.comm, step))
        written.append(time.perf_counter() - start)
        saver.settle()
    return {
        "step": statistics.median(alone),
        "stall": statistics.median(stalls),
        "longest stall": max(stalls),
        "step beside": statistics.median(beside) if beside else None,
        "written after": statistics.median(written),
        "parameters": run.layout.size,
    }


def main() -> None:
    """Save some checkpoints in a new run, and resume from the last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parameters", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--saves", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    comm, told = world(), settings(args.parameters, args.batch, args.folder)
    with start_run(told, comm, Start(fresh=True, quiet=True)) as (run, saver, _):
        results = saves(run, saver, args.saves)
        saver.save_now()
    for name, start in (("start anew", Start(fresh=True, quiet=True)), ("resume", Start(quiet=True))):
        begun = time.perf_counter()
        if name == "start anew":
            without = dataclasses.replace(told, out=None)
            with start_run(without, comm, start):
                results[name] = max(comm.gather(time.perf_counter() - begun))
        else:
            with start_run(told, comm, start):
                results[name] = max(comm.gather(time.perf_counter() - begun))
    if comm.rank == 0:
        results["bytes"] = max(path.stat().st_size for path in args.folder.glob("checkpoints/step-*.h5"))
        args.out.write_text(json.dumps({"versions": {"dbp": dbp.__version__}, "results": results}))


if __name__ == "__main__":
    main()
