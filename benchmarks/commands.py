"""What the commands of this folder have in common: arguments, words for the user, the machine, the JSON file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from programs import FailedError
from steps.cases import CASES

Notes = list[str]  # for the user, beneath the table
Measurement = Callable[[argparse.Namespace, Notes], dict[str, Any]]


def say(text: str) -> None:
    """Print progress to stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def machine() -> dict[str, Any]:
    """Return the processor, its number of cores, and the system."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    processor = models[0] if models else platform.processor() or platform.machine()
    return {"processor": processor, "cores": cores, "system": platform.platform(), "python": platform.python_version()}


def footnotes(versions: dict[str, str], notes: Notes) -> str:
    """Return the machine, the versions and the notes as text."""
    return "\n".join([*(f"{name}: {value}" for name, value in (machine() | versions).items()), *notes])


def few_cores(ranks: int) -> Notes:
    """Return a warning if ranks must share cores."""
    cores = machine()["cores"]
    if cores >= ranks:
        return []
    return [f"warning: {ranks} ranks or threads, but this machine gives {cores} cores; these times say little"]


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, but is {text!r}")
    return int(text)


def counts(text: str) -> list[int]:
    """Parse whole numbers of at least 1, separated by commas, and sort them."""
    return sorted({positive(word) for word in text.split(",")})


def case_names(text: str) -> list[str]:
    """Parse names of cases, separated by commas."""
    names = list(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in CASES]:
        raise argparse.ArgumentTypeError(f"there is no case {unknown[0]!r}; valid: {', '.join(CASES)}")
    return names


def parser(program: str | None) -> argparse.ArgumentParser:
    """Return a parser with the option --json; the module's docstring is its help."""
    summary_line, _, details = (program or "").partition("\n")
    made = argparse.ArgumentParser(
        description=summary_line, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    return made


def parsed(known: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the arguments of this process."""
    args = known.parse_args()
    if args.json and not args.json.absolute().parent.is_dir():
        known.error(f"--json: there is no folder {args.json.absolute().parent}")
    return args


def carry_out(measurement: Measurement, args: argparse.Namespace) -> int:
    """Call a function that measures and prints tables, write its figures to the JSON file, and return the exit code."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # not without ending what was started
    notes: Notes = []
    try:
        told = measurement(args, notes)
    except FailedError as error:
        say(f"dbp failed: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), **told, "notes": notes}, indent=1) + "\n")
    return 0
