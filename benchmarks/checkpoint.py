"""The cost of checkpoints, and the times to resume from one and to recover when a rank has died.

    python benchmarks/checkpoint.py [--ranks 2] [--parameters 2e6,20e6] [--saves 7] [--deaths 5] [--arrays 9000,60000]
                                    [--folder FOLDER] [--json FILE]

Trains dense layers with Adam, whose checkpoints hold three vectors, in a run's folder in FOLDER (by default that of
temporary files). "step" is the median time of a step without a checkpoint, "stall" the time for which training waits
when one begins (the copy of the state), also as a part of a step; "beside" is the time of a step while one is
written, "written" the time until it is written, verified and has its name. "resume" is by how much longer a run takes
to begin if it resumes from a checkpoint: to find, verify and read it. With one rank more, which is killed, and Open
MPI 5: "noticed" and "met" are the times from then until all others know, and until they have come together; "from
memory" and "from file" until they begin their next step, from the state of a node that is whole, or, if the rank died
while it changed that, from the last checkpoint. Times in ms, of the slowest rank. A second table has the seconds of
processor time that a checkpoint of many small arrays takes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from commands import Notes, carry_out, counts, few_cores, footnotes, parsed, parser, positive, say
from memory import parameters
from programs import FailedError, own_program
from tables import line, number

from dbp.checkpoint import StoredCheckpoint, read, write

RECOVERY = ("noticed", "met", "from memory", "from file")


def sizes(text: str) -> list[int]:
    """Parse numbers of parameters, separated by commas."""
    return [parameters(word) for word in text.split(",")]


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    known = parser(__doc__)
    known.add_argument("--ranks", type=positive, default=2)
    known.add_argument("--parameters", type=sizes, default=[2_000_000, 20_000_000], help="with commas between")
    known.add_argument("--batch", type=positive, default=256, help="examples in a step (256)")
    known.add_argument("--saves", type=positive, default=7, help="checkpoints of which the median is taken (7)")
    known.add_argument("--deaths", type=positive, default=5, help="of ranks, of which the median is taken (5)")
    known.add_argument("--arrays", type=counts, default=[9000, 60_000], help="numbers of small arrays, likewise")
    known.add_argument("--folder", type=Path, help="where checkpoints are written")
    return parsed(known)


def table(found: dict[int, dict[str, Any]]) -> str:
    """Return a table with a line for each size."""
    titles = ("MB", "step", "stall", "of a step", "longest", "beside", "written", "resume")
    lines = [line("parameters", (f"{title} " for title in titles))]
    for count, row in found.items():
        step, stall = row["step"], row["stall"]
        figures = [number(row["bytes"] / 1e6, 0), ms(step), ms(stall), number(stall / step, 2)]
        figures += [ms(row[name]) for name in ("longest stall", "step beside", "written after")]
        lines.append(line(f"{count:,}", [*figures, ms(row["resume"] - row["start anew"], 0)]))
    return "\n".join(lines)


def table_of_recovery(found: dict[int, dict[str, Any]]) -> str:
    """Return a table of the times after a rank has died."""
    lines = [line("parameters", (f"{title} " for title in RECOVERY))]
    lines += [line(f"{count:,}", [ms(row.get(name), 0) for name in RECOVERY]) for count, row in found.items()]
    return "\n".join(lines)


def ms(seconds: float | None, digits: int = 1) -> str:
    """Return seconds as text, in milliseconds."""
    return number(None if seconds is None else seconds * 1e3, digits)


def recovery(args: argparse.Namespace, count: int, notes: Notes) -> dict[str, float]:
    """Return the median times after a rank has died; {} where ranks cannot outlive others."""
    told: dict[str, list[float]] = {name: [] for name in RECOVERY}
    for changing in [False, True] * args.deaths:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            words = ["--parameters", count, "--batch", args.batch, "--folder", Path(folder) / "run"]
            words += ["--changing"] * changing
            try:
                program = own_program("recovery_steps.py", args.ranks + 1, "--survive")
                found = program.measure(*map(str, words))["results"]
            except FailedError as error:
                notes.append(f"no recovery was measured: {error}")
                return {}
        found["from file" if changing else "from memory"] = found.pop("recovered")
        for name, seconds in found.items():
            told[name].append(seconds)
    return {name: statistics.median(seconds) for name, seconds in told.items()}


def seconds_of_arrays(count: int, folder: Path) -> dict[str, float]:
    """Return the processor time that writing and reading a checkpoint of small arrays takes, the shortest of three."""
    arrays = {f"layer_{number}/weight": np.zeros((4, 4), np.float32) for number in range(count)}
    times = []
    for _ in range(3):
        began = time.process_time()
        write(folder / "c.h5", StoredCheckpoint(arrays))
        written = time.process_time()
        read(folder / "c.h5")
        times.append((written - began, time.process_time() - written))
    return dict(zip(("write", "read"), map(min, zip(*times, strict=True)), strict=True))


def table_of_arrays(found: dict[int, dict[str, float]]) -> str:
    """Return a table of the processor time for many arrays."""
    lines = [line("arrays", (f"{title} s" for title in ("write", "read")))]
    lines += [line(f"{count:,}", [number(row[name], 2) for name in ("write", "read")]) for count, row in found.items()]
    return "\n".join(lines)


def report(args: argparse.Namespace, notes: Notes) -> dict[str, Any]:
    """Measure each size in separate processes, print a table, and return all figures."""
    notes += few_cores(args.ranks)
    found: dict[int, dict[str, Any]] = {}
    versions: dict[str, str] = {}
    for count in args.parameters:
        say(f"parameters: {count:,}")
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            words = ("--parameters", count, "--batch", args.batch, "--saves", args.saves, "--folder", folder)
            told = own_program("checkpoint_steps.py", args.ranks).measure(*map(str, words))
        found[told["results"]["parameters"]], versions = told["results"], told["versions"]
        told["results"] |= recovery(args, count, notes)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        arrays = {count: seconds_of_arrays(count, Path(folder)) for count in args.arrays}
    print(table(found), table_of_recovery(found), table_of_arrays(arrays), footnotes(versions, notes), sep="\n\n")
    return {"sizes": found, "arrays": arrays, "versions": versions}


if __name__ == "__main__":
    sys.exit(carry_out(report, arguments()))
