"""The import rule, the size of files and functions, and the checks of ruff and mypy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.jobs import ROOT

PACKAGE = ROOT / "dbp"
FILES = sorted(PACKAGE.rglob("*.py"))

# What each part may import of the others; `errors` and `random` are the ground that all may stand on.
GROUND = {"errors", "log", "random", "stopping"}
LEAVES = ("autodiff", "parallel", "data", "checkpoint", "optim")
ALLOWED = {
    **{leaf: set() for leaf in LEAVES},
    "errors": set(),
    "random": set(),
    "log": set(),
    "stopping": set(),
    "scheduler": set(),
    "text": set(),
    "nn": {"autodiff"},
    "curvature": {"autodiff", "parallel"},
    "objective": {"autodiff", "curvature", "nn", "parallel"},
    "loader": {"data", "nn", "objective", "parallel"},
    "settings": {"data", "nn", "optim"},
    "config": {"data", "nn", "optim", "settings"},
    "sources": {"autodiff", "data", "parallel", "settings"},
    "progress": {"objective"},
    "display": {"objective"},
    "resuming": {"checkpoint", "config", "parallel", "progress", "scheduler", "settings"},
    "run": {"autodiff", "checkpoint", "config", "data", "loader", "nn", "objective", "optim", "parallel", "progress"}
    | {"provenance", "resuming", "settings", "sources", "__init__"},
    "provenance": {"parallel", "scheduler", "__init__"},
    "run_folder": {"checkpoint", "provenance", "scheduler", "settings"},
    "restoring": {"autodiff", "checkpoint", "nn", "parallel", "resuming", "run", "run_folder"},
    "keeping": {"autodiff", "checkpoint", "config", "nn", "parallel", "provenance", "restoring", "resuming", "run"}
    | {"run_folder"},
    "diagnosis": {"autodiff", "nn", "objective"},
    "trouble": {"autodiff", "diagnosis", "keeping", "objective", "optim", "parallel", "run"},
    "surviving": {"parallel", "restoring", "run", "settings"},
    "timing": {"parallel"},
    "train": {"autodiff", "display", "keeping", "nn", "optim", "parallel", "progress", "restoring", "resuming", "run"}
    | {"objective", "scheduler", "settings", "surviving", "timing", "trouble"},
    "trained": {"autodiff", "data", "nn"},
    "inference": {"checkpoint", "config", "data", "display", "loader", "objective", "parallel", "settings"}
    | {"sources", "text", "trained"},
    "insight": {"autodiff", "checkpoint", "data", "loader", "nn", "objective", "parallel", "settings", "sources"}
    | {"text", "trained"},
    "exchange": {
        "autodiff",
        "checkpoint",
        "config",
        "data",
        "nn",
        "progress",
        "provenance",
        "settings",
        "sources",
        "text",
    }
    | {"__init__"},
    "launch": {"display", "parallel", "scheduler"},
    "status": {"display", "run_folder", "settings"},
    "batch": {"config", "launch", "parallel", "resuming", "run_folder", "settings", "status"},
    "doctor": {"checkpoint", "data", "display", "launch", "parallel", "scheduler", "settings", "text", "__init__"},
    "arguments": {"__init__"},
    "cli": {
        "arguments",
        "batch",
        "checkpoint",
        "config",
        "data",
        "doctor",
        "exchange",
        "inference",
        "insight",
        "launch",
        "parallel",
    }
    | {"provenance", "resuming"}
    | {"settings", "status", "train"},
    "__main__": {"cli"},
}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path):
    """The modules that a file imports, as dotted names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            if node.module == "dbp":
                yield from (f"dbp.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_import_rule(path):
    part = part_of(path)
    if part == "__init__":  # names the parts, and loads them when they are asked for
        return
    for name in imports(path):
        if name == "dbp" or name.startswith("dbp."):
            other = name.split(".")[1] if "." in name else "__init__"
            assert other == part or other in GROUND | ALLOWED[part], f"{part} must not import {other}"
        if name.split(".")[0] == "mpi4py":
            assert path == PACKAGE / "parallel" / "mpi.py"
        if name.split(".")[0] == "h5py":
            assert part in ("data", "checkpoint"), f"{path} must leave HDF5 to data/ and checkpoint/"


def test_the_rule_has_no_cycle():
    order: list[str] = []
    waiting = {part: needs - {"__init__"} for part, needs in ALLOWED.items()}
    while waiting:
        ready = [part for part, needs in waiting.items() if needs <= set(order)]
        assert ready, f"a cycle among {sorted(waiting)}"
        order += ready
        for part in ready:
            del waiting[part]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_fit_in_the_eye(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "every module says what it is"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, f"{node.name} is too long"


@pytest.mark.parametrize("command", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]], ids=" ".join)
def test_style_and_types(command):
    outcome = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
