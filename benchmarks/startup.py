"""The cost of starting a training on each rank, up to its first step: time, modules, files.

    python benchmarks/startup.py [--ranks 2] [--config FILE] [--rounds 3] [--json FILE]

Thousands of ranks that start at once read the same files of one shared disk, so what counts there is how many of them
each rank opens. Ranks run `dbp train CONFIG`, with an audit hook by which Python tells of every file that it opens, in
several rounds after one that only fills caches. "s" is the time from the start of the process to the first step, of
the quickest round; "modules" are those imported, "dbp's" those of dbp; "files" are those opened by Python, "libraries"
the shared libraries that are loaded then; "in packages" are those of both that lie where Python packages are installed,
and "data" the files of config, data and checkpoints (.toml, .h5). Needs Linux.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from commands import Notes, carry_out, few_cores, footnotes, parsed, parser, positive, say
from programs import own_program
from tables import line, number

CONFIG = Path(__file__).parent.parent / "examples" / "digits.toml"
TITLES = ("s", "modules", "dbp's", "files", "libraries", "in packages", "data")
MOST = 8  # ranks that are shown


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    known = parser(__doc__)
    known.add_argument("--ranks", type=positive, default=2)
    known.add_argument("--config", type=Path, default=CONFIG, help="what is trained (examples/digits.toml)")
    known.add_argument("--rounds", type=positive, default=3, help="after the first, of which the quickest counts (3)")
    return parsed(known)


def counts(row: dict[str, Any], packages: list[str]) -> dict[str, float]:
    """Return the figures of one rank."""
    files, libraries = row["files"], row["libraries"]
    return {
        "s": row["seconds"],
        "modules": len(row["modules"]),
        "dbp's": sum(name.split(".")[0] == "dbp" for name in row["modules"]),
        "files": len(files),
        "libraries": len(libraries),
        "in packages": sum(path.startswith(tuple(packages)) for path in files + libraries),
        "data": sum(path.endswith((".toml", ".h5")) for path in files),
    }


def table(rows: list[dict[str, float]]) -> str:
    """Return a table with a line for each rank."""
    lines = [line("", (f"{title} " for title in TITLES))]
    for rank, row in enumerate(rows[:MOST]):
        lines.append(line(f"rank {rank}", [number(row["s"]), *(number(row[title], 0) for title in TITLES[1:])]))
    return "\n".join(lines)


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Start a training and return what its ranks report."""
    with tempfile.TemporaryDirectory() as folder:
        words = (str(args.config), "--out", folder, "--set", "epochs=1")
        return own_program("startup_rank.py", args.ranks).measure(*words)


def report(args: argparse.Namespace, notes: Notes) -> dict[str, Any]:
    """Measure some starts, print a table, and return all figures."""
    notes += few_cores(args.ranks)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # as users have it
    rounds = []
    for number_of_round in range(args.rounds + 1):
        say(f"start {number_of_round} of {args.rounds}")
        told = measured(args)
        if number_of_round:
            rounds.append([counts(row, told["packages"]) for row in told["results"]])
    ranks = [min(of_rank, key=lambda row: row["s"]) for of_rank in zip(*rounds, strict=True)]
    if len(ranks) > MOST:
        notes.append(f"and {len(ranks) - MOST} ranks more, in the JSON file")
    print(table(ranks), footnotes(told["versions"], notes), sep="\n\n")
    return {"ranks": ranks, "last": told["results"], "versions": told["versions"]}


if __name__ == "__main__":
    sys.exit(carry_out(report, arguments()))
