"""The time from the start of a training to its first step, by the size of its data and by where the files are.

    python benchmarks/first_step.py [--sizes 100MB,2GB,20GB] [--ranks 2] [--folder FOLDER] [--json FILE]

For each size a file of inputs and classes in one piece is written; --folder keeps the files for the next time. A dense
network is trained on it, cold, with nothing of the file in the system's cache, and warm, a second time. "start" is the
time in seconds from the start of the slowest rank to its first step; "read" that of reading the file from end to end,
cold, which a start that checked every row could not undercut. Needs Linux.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from commands import Notes, carry_out, few_cores, footnotes, parsed, parser, positive, say
from large_data import number_of_bytes
from programs import own_program
from tables import line, number

FEATURES, BLOCK_ROWS = 784, 1 << 14
ROW_BYTES = 4 * FEATURES + 8
TITLES = ("cold", "warm", "read")
CONFIG = """
loss = "cross_entropy"
epochs = 1
batch_size = 256
shards = 2
optimizer = "adam"
model.layers = [{{ kind = "dense", units = 10 }}]
data.train = "{}"
"""


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    known = parser(__doc__)
    known.add_argument("--sizes", default="100MB,2GB,20GB", help="of the data (100MB,2GB,20GB)")
    known.add_argument("--ranks", type=positive, default=2)
    known.add_argument("--folder", type=Path, help="of the files, which are kept there")
    return parsed(known)


def write(path: Path, rows: int) -> None:
    """Write a file of so many examples, if it is not there."""
    if path.exists():
        return
    rng = np.random.default_rng(0)
    inputs, targets = rng.random((BLOCK_ROWS, FEATURES), np.float32), rng.integers(0, 10, BLOCK_ROWS)
    with h5py.File(path, "w") as file:
        columns = file.create_dataset("inputs", (rows, FEATURES), "f4"), file.create_dataset("targets", (rows,), "i8")
        for first in range(0, rows, BLOCK_ROWS):
            count = min(BLOCK_ROWS, rows - first)
            for column, values in zip(columns, (inputs, targets), strict=True):
                column[first : first + count] = values[:count]


def make_cold(path: Path) -> None:
    """Take a file out of the system's cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def seconds_of_reading(path: Path) -> float:
    """Return how long it takes to read a file from end to end."""
    begun = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        into = bytearray(1 << 22)
        while file.readinto(into):
            pass
    return time.perf_counter() - begun


def start(path: Path, ranks: int) -> tuple[float, dict[str, str]]:
    """Return the time of a start, and the versions of what was started."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.toml")
        config.write_text(CONFIG.format(path.resolve()))
        found = own_program("startup_rank.py", ranks).measure(str(config), "--out", f"{folder}/run")
    return max(row["seconds"] for row in found["results"]), found["versions"]


def measure(folder: Path, size: str, ranks: int) -> dict[str, Any]:
    """Return the times of a size."""
    path, rows = folder / f"{size}.h5", max(256, number_of_bytes(size) // ROW_BYTES)
    say(f"{size}: {rows:,} examples")
    write(path, rows)
    make_cold(path)
    read = seconds_of_reading(path)
    make_cold(path)
    cold, versions = start(path, ranks)
    warm, _ = start(path, ranks)
    return {"cold": cold, "warm": warm, "read": read, "versions": versions}


def report(args: argparse.Namespace, notes: Notes) -> dict[str, Any]:
    """Measure all sizes, print a table, and return all figures."""
    notes += few_cores(args.ranks)
    with tempfile.TemporaryDirectory(dir=args.folder) as own:
        folder = args.folder or Path(own)
        sizes = {size: measure(folder, size, args.ranks) for size in args.sizes.split(",")}
    lines = [line("", (f"{title} " for title in TITLES))]
    lines += [line(size, (number(row[title]) for title in TITLES)) for size, row in sizes.items()]
    print("\n".join(lines), footnotes(next(iter(sizes.values()))["versions"], notes), sep="\n\n")
    return {"sizes": sizes}


if __name__ == "__main__":
    sys.exit(carry_out(report, arguments()))
