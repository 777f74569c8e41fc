"""dbp's side of data.py: a training on a file, timed epoch by epoch, or the time that unpacking its chunks takes."""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import dbp
from dbp.config.data import Data
from dbp.config.settings import Checkpoint, Settings
from dbp.data import HDF5Dataset, filters
from dbp.data.chunked import ChunkedColumn
from dbp.nn import Dense
from dbp.parallel import Communicator, world
from dbp.saving.start import Start
from dbp.training import fit, loop

BATCH = 256
COUNTED = "inputs"  # the column whose chunks are counted


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--file", required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--memory")
    parser.add_argument("--window", type=int)
    parser.add_argument("--order", default="auto")
    parser.add_argument("--test")
    parser.add_argument("--folder", help="of the run, which resumes if it is there")
    parser.add_argument("--every", type=int, default=0, help="steps from one checkpoint to the next")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--unpack", action="store_true", help="measure unpacking alone")
    parser.add_argument("--library", choices=("zlib", "quickest"), default="quickest", help="that inflates")
    return parser.parse_args()


def settings_of(args: argparse.Namespace) -> Settings:
    """Return the settings of the run."""
    memory = {} if args.memory is None else {"memory": args.memory}
    data = Data(args.file, test=args.test, window=args.window, order=args.order, **memory)
    return Settings(
        model=[Dense(128, "relu"), Dense(10)],
        loss="cross_entropy",
        data=data,
        optimizer=dbp.optim.Adam(args.rate),
        epochs=args.epochs,
        batch_size=BATCH,
        shards=2,
        seed=args.seed,
        out=args.folder,
        checkpoint=Checkpoint(every_epochs=0, every_steps=args.every),
    )


class Counts:
    """The chunks that this rank has unpacked, before the first step and after."""

    def __init__(self) -> None:
        self.chunks: Counter[str] = Counter()
        self.at_first_step: int | None = None
        self.first_step = 0.0
        read, step = ChunkedColumn._read_unit, loop.step  # noqa: SLF001  what is counted is no part of the interface

        def reading(column: ChunkedColumn, unit: int, into: Any) -> None:
            self.chunks[column._name] += 1  # noqa: SLF001
            read(column, unit, into)

        def stepping(*arguments: Any, **options: Any) -> Any:
            if self.at_first_step is None:
                self.at_first_step, self.first_step = self.chunks[COUNTED], time.perf_counter()
            return step(*arguments, **options)

        ChunkedColumn._read_unit, loop.step = reading, stepping  # type: ignore[method-assign]  # noqa: SLF001


def own_megabytes() -> float:
    """Return the memory of this process in MB, shared memory divided among those that share it, without files."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon", "Pss_Shmem"))) * 1024 / 1e6


def trained(args: argparse.Namespace, comm: Communicator) -> dict[str, Any]:
    """Train and return what was measured, on rank 0."""
    counts, start = Counts(), time.perf_counter()
    memory: list[float] = []
    finish = fit._finish  # noqa: SLF001  the last moment at which all memory is still there

    def finishing(*arguments: Any) -> Any:
        comm.barrier()
        memory.append(own_megabytes())
        return finish(*arguments)

    fit._finish = finishing  # noqa: SLF001
    result = fit.train(settings_of(args), comm, Start(quiet=True))
    clock = [0.0, *result.history["seconds"]]
    at_start = counts.at_first_step or 0
    everyone = comm.gather((memory[0], counts.chunks[COUNTED] - at_start, counts.first_step - start, at_start))
    return {
        "epochs": [after - before for before, after in itertools.pairwise(clock)],
        "node_mb": sum(mb for mb, *_ in everyone),
        "chunks_read": sum(count for _, count, *_ in everyone),
        "chunks_at_start": sum(count for *_, count in everyone),
        "first_step": max(seconds for _, _, seconds, _ in everyone),
        "steps": result.steps,
        "accuracy": (result.test or {}).get("accuracy"),
    }


def unpacked(args: argparse.Namespace) -> dict[str, Any]:
    """Return the seconds of processor time that unpacking all chunks takes."""
    data = HDF5Dataset(args.file)
    borders = data.borders
    assert borders is not None
    start = time.process_time()
    for first, stop in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        data.read(slice(first, stop))
    return {"seconds": time.process_time() - start, "library": filters.quickest_zlib().__name__}


def main() -> None:
    """Measure what the arguments say."""
    args, comm = arguments(), world()
    if args.library == "zlib":
        filters.ZLIBS = ("zlib",)  # type: ignore[assignment]
    found = unpacked(args) if args.unpack else trained(args, comm)
    if comm.rank == 0:
        versions = {"dbp": dbp.__version__, f"inflated by, {args.library}": filters.quickest_zlib().__name__}
        args.out.write_text(json.dumps({"versions": versions, "results": found}))


if __name__ == "__main__":
    main()
