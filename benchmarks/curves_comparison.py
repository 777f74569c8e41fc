"""The comparison on CURVES: squared error of the training images against time, by method, dbp's and PyTorch's."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from commands import Notes, few_cores, footnotes, say
from programs import RANKS, STEPS, Program, has_torch, own_program
from tables import line, number

PROGRAM, PEER = "curves_runs.py", "torch_curves.py"
MARKS = 1 / 60, 1 / 20, 1 / 10, 1 / 4, 1 / 2, 1.0  # parts of the time, the columns of the table
GOAL = "PyTorch Adam"  # whose last error the others are measured by
Points = list[dict[str, float]]

SMALL = {"batch_size": 200}
RUNS: dict[str, dict[str, Any]] = {
    "SGD": SMALL | {"optimizer": {"kind": "sgd", "learning_rate": 0.01, "momentum": 0.95}},
    "Adam": SMALL | {"optimizer": {"kind": "adam", "learning_rate": 1e-3}},
    "L-BFGS": {"optimizer": {"kind": "lbfgs"}},
    "Hessian-free": {
        "batch_size": 5000,
        "optimizer": {"kind": "newton", "preconditioner": "kronecker", "iterations": 4},
    },
    "K-FAC": {
        "batch_size": 2000,
        "optimizer": {"kind": "kfac", "damping": 1e-5, "part": 0.25, "factor_part": 0.125, "average": 0.98},
    },
}
PEERS = {GOAL: "adam", "PyTorch L-BFGS": "lbfgs"}
METHODS = (*RUNS, *PEERS)


def compare(args: argparse.Namespace, notes: Notes) -> dict[str, Any]:
    """Run the methods that the JSON file does not have yet, and print tables; return all figures."""
    told = {"curves": {"seconds": args.seconds, "images": args.images, "methods": {}}, "versions": {}}
    if args.json and args.json.exists():
        told = _resumed(args.json, told)
    methods, versions = told["curves"]["methods"], told["versions"]
    names = args.methods.split(",") if args.methods else [*RUNS, *(PEERS if has_torch(notes) else ())]
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder) / "start.npz"
        for name in names:
            if name in methods:
                say(f"CURVES: {name}, from {args.json}")
                continue
            say(f"CURVES: {name}")
            found = _run(name, args, start)
            versions |= found.pop("versions")
            methods[name] = found
            if args.json:
                args.json.write_text(json.dumps(told))  # what the next start resumes from
    shown = {name: methods[name]["points"] for name in names}
    print(error_table(shown, args.seconds), goal_table(shown), sep="\n\n", end="\n\n")
    print(footnotes(versions, [*few_cores(RANKS), *notes]))
    return told


def _resumed(file: Path, told: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of an earlier start with the same settings; those of any other are not used."""
    try:
        before = json.loads(file.read_text())
    except ValueError:
        before = {}
    own, found = told["curves"], before.get("curves", {})
    if [found.get(key) for key in ("seconds", "images")] != [own["seconds"], own["images"]]:
        say(f"{file} has figures of other settings, which are replaced")
        return told
    return {"curves": found, "versions": before["versions"]}


def _run(name: str, args: argparse.Namespace, start: Path) -> dict[str, Any]:
    """Run a method, and return its points and versions."""
    timeout = 10 * args.seconds + 900
    if name in RUNS:
        words = ["--run", json.dumps(RUNS[name]), "--examples", str(args.images), "--seconds", str(args.seconds)]
        return replace(own_program(PROGRAM, RANKS), timeout=timeout).measure(*words)
    if not start.exists():
        words = ["--run", json.dumps(RUNS["Adam"]), "--examples", str(args.images), "--seconds", "0"]
        own_program(PROGRAM, 1).run("--start", str(start), *words)
    peer = Program("PyTorch", [sys.executable, str(STEPS / PEER)], threads=RANKS, timeout=timeout)
    return peer.measure("--start", str(start), "--method", PEERS[name], "--seconds", str(args.seconds))


def error_within(points: Points, seconds: float) -> float | None:
    """Return the lowest squared error within a time."""
    return min((point["squared_error"] for point in points if point["seconds"] <= seconds), default=None)


def seconds_to(points: Points, error: float) -> float | None:
    """Return the time until the squared error is at most this."""
    return next((point["seconds"] for point in points if point["squared_error"] <= error), None)


def error_table(found: dict[str, Points], seconds: float) -> str:
    """Return a table of the lowest squared error of each method within several times."""
    marks = [mark * seconds for mark in MARKS]
    lines = [line("squared error within", (f"{mark:.3g} s " for mark in marks))]
    for name, points in found.items():
        # The last point comes a step after the time is over.
        last = max(seconds, points[-1]["seconds"])
        errors = [error_within(points, last if mark == seconds else mark) for mark in marks]
        lines.append(line(name, (number(error, 3) for error in errors)))
    return "\n".join(lines)


def goal_table(found: dict[str, Points]) -> str:
    """Return a table of the times in which each method comes to the last error of PyTorch's Adam."""
    if GOAL not in found:
        return f"without {GOAL} there is no error to come to"
    goal = error_within(found[GOAL], float("inf"))
    assert goal is not None
    its = seconds_to(found[GOAL], goal)
    lines = [line(f"to {goal:.3f}", ("seconds ", "of its time "))]
    for name, points in found.items():
        seconds = seconds_to(points, goal)
        lines.append(line(name, (number(seconds, 1), number(seconds and its and seconds / its))))
    return "\n".join(lines)
