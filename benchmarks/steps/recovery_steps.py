"""The time from the death of a rank until the others begin their next step."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from checkpoint_steps import settings

import dbp
from dbp.config.settings import Checkpoint
from dbp.errors import Stopped
from dbp.parallel import Communicator, world
from dbp.reading.shard import Batch
from dbp.run.run import Run
from dbp.saving.start import Start
from dbp.training import loop, recovery
from dbp.training.fit import train

EVERY, EPOCHS = 10, 1000  # steps between checkpoints, and epochs of one step each; it ends long before


class Clock:
    """The times of events, in seconds of a clock that all processes of a machine share.

    Args:
        folder: of the run, beside which the rank that dies notes when.
        out: a JSON file for what was measured.
        changing: whether the rank dies while it changes the weights, so that the others need a checkpoint.
    """

    def __init__(self, folder: Path, out: Path, changing: bool):
        self.folder, self.died, self.out, self.changing = folder, folder.with_name("died"), out, changing
        self.noticed = self.met = 0.0

    def step(self, take: Callable[[Run, int], Any], run: Run, batch: Batch, total: int) -> Any:
        """Take a step, or kill the last rank some steps after a checkpoint; stop at the first step of the survivors."""
        if run.comm.survival.lost:
            self.tell(run.comm)
            raise Stopped(0)
        saved = run.progress.step % EVERY == EVERY - 1 and any(self.folder.glob("checkpoints/step-*.h5"))
        if saved and run.comm.rank == run.comm.size - 1:
            if self.changing:
                run.arena.changing.__enter__()
            self.died.write_text(repr(time.monotonic()))
            os.kill(os.getpid(), signal.SIGKILL)
        return take(run, batch, total)

    def survivors(self, meet: Callable[[float], Communicator], seconds: float) -> Communicator:
        """Return the surviving ranks, and note when they were found."""
        self.noticed = time.monotonic()
        comm = meet(seconds)
        self.met = time.monotonic()
        return comm

    def tell(self, comm: Communicator) -> None:
        """Write the seconds after the death, on the slowest rank."""
        died, now = float(self.died.read_text()), time.monotonic()
        times = {"noticed": self.noticed - died, "met": self.met - died, "recovered": now - died}
        results = {name: max(comm.gather(seconds)) for name, seconds in times.items()}
        if comm.rank == 0:
            self.out.write_text(json.dumps({"versions": {"dbp": dbp.__version__}, "results": results}))


def main() -> None:
    """Train until a rank has died and the others have recovered."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parameters", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--changing", action="store_true")
    args = parser.parse_args()
    told = settings(args.parameters, args.batch, args.folder)
    told = dataclasses.replace(told, epochs=EPOCHS, checkpoint=Checkpoint(every_steps=EVERY, keep=2))
    clock = Clock(args.folder, args.out, args.changing)
    instead, rebuilt = cast(Any, loop), cast(Any, recovery)
    take, meet = loop.step, recovery.survivors
    instead.step = lambda run, batch, total_steps: clock.step(take, run, batch, total_steps)
    rebuilt.survivors = lambda seconds: clock.survivors(meet, seconds)
    train(told, world(), Start(fresh=True, quiet=True))


main()
