"""Whether every optimizer has the same bits on all ranks and nodes: one digest of the weights, or not.

    python benchmarks/equal_bits.py [--methods adam,lbfgs] [--jobs "3; 2,1 divide"] [--mpich PYTHON] [--json FILE]

Trains short runs with each method on one rank, and again in jobs on other ranks and nodes: "5" is five ranks, "2,1" are
two nodes with two ranks and one. The words that may follow: "divide" (optimizer state among the nodes), "private" (no
memory that ranks share), "resume" (also in two starts), "mpich" (with the MPICH of another Python). The table counts
the methods with other bits than on one rank, all of a job that fails; the exit code is 1 if there are any.
Nodes are emulated on this machine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from commands import Notes, carry_out, footnotes, parsed, parser, say
from programs import FailedError, last_words

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests/ is beside this folder, and not installed

from tests.jobs import PROGRAMS, mpirun

JOBS = (
    "1 resume; 2; 3 resume; 5 private; 8; 1,1 divide; 2,1; 2,1 divide resume; 1,2,1 private resume; 2,2,1; "
    "3,4,1 divide; 3 mpich resume; 2,2,1 mpich"
)
WORDS = ("divide", "private", "resume", "mpich")
TIMEOUT = 600  # seconds for a job


def jobs(text: str) -> list[str]:
    """Parse jobs, separated by semicolons."""
    found = [" ".join(job.split()) for job in text.split(";") if job.strip()]
    for job in found:
        sizes, *words = job.split()
        if not all(size.isdecimal() and int(size) for size in sizes.split(",")):
            raise argparse.ArgumentTypeError(f"the job {job!r} must begin with ranks of nodes, such as 3 or 2,1")
        if unknown := [word for word in words if word not in WORDS]:
            raise argparse.ArgumentTypeError(f"there is no word {unknown[0]!r}; valid: {', '.join(WORDS)}")
    return found


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    known = parser(__doc__)
    known.add_argument("--methods", default="", help="names, with commas between (all)")
    known.add_argument("--jobs", type=jobs, default=jobs(JOBS), help="with semicolons between")
    known.add_argument("--mpich", metavar="PYTHON", help="with dbp, SciPy and MPICH; else such jobs are left out")
    return parsed(known)


def digests(job: str, methods: list[str], python: str) -> dict[str, str]:
    """Train with some methods, or with all, in a job; return the digests of the weights by method."""
    sizes, *words = job.split()
    options = [f"--{word}" for word in words if word != "mpich"]
    environment = {"DBP_NODE_SIZES": sizes} if "," in sizes else {}
    ranks = sum(map(int, sizes.split(",")))
    with tempfile.TemporaryDirectory(prefix="dbp-bits-") as folder:
        command = (PROGRAMS / "optimizer_digests.py", folder, *methods, *options)
        outcome = mpirun(ranks, *command, python=python, env=environment, timeout=TIMEOUT)
    if outcome.code:
        raise FailedError(f"{job}: {last_words(outcome.err) or outcome.code}")
    return dict(line.split(": ") for line in outcome.out.splitlines())


def report(args: argparse.Namespace, notes: Notes) -> dict[str, Any]:
    """Train on one rank and in each job, print a table, and return all digests."""
    if args.mpich is None and any("mpich" in job for job in args.jobs):
        args.jobs = [job for job in args.jobs if "mpich" not in job]
        notes.append("jobs with MPICH are left out; --mpich names a Python that has it")
    methods = [name for name in args.methods.split(",") if name]
    say("1")
    expected, found = digests("1", methods, sys.executable), {}
    for job in args.jobs:
        say(job)
        try:
            found[job] = digests(job, methods, args.mpich if "mpich" in job else sys.executable)
        except FailedError as error:
            found[job] = {}
            notes.append(f"failed: {error}")
    width = max(map(len, found)) + 2
    rows = [f"{'':{width}}methods  other bits"]
    rows += [f"{job:{width}}{len(found[job]):7d}  {len(other(found[job], expected)):10d}" for job in found]
    print("\n".join(rows), footnotes({}, notes), sep="\n\n")
    return {"one rank": expected, "jobs": found, "other": {job: other(found[job], expected) for job in found}}


def other(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """Return the methods whose digests are not those that are expected."""
    return [name for name in expected if found.get(name) != expected[name]]


def main() -> int:
    """Compare; return exit code 1 if any bits are others."""
    wrong = 0

    def measure(args: argparse.Namespace, notes: Notes) -> dict[str, Any]:
        nonlocal wrong
        results = report(args, notes)
        wrong = sum(map(len, results["other"].values()))
        return results

    return carry_out(measure, arguments()) or int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
