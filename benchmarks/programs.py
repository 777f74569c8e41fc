"""dbp and its peers as programs: the commands that start them, and the results that they report."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steps.cases import RANKS

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests/ is beside this folder, and not installed

from tests.processes import TimeLimitError, run

STEPS = Path(__file__).parent / "steps"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # where set, they may keep OpenBLAS from its best kernels
TIMEOUT = 900  # seconds for a program that measures all cases


class FailedError(Exception):
    """The error of a program that measures and has failed."""


@dataclass(frozen=True)
class Program:
    """The program of dbp or a peer.

    Args:
        name: for the user.
        command: what starts it.
        threads: of each of its processes.
        environment: variables, besides those of this process.
        timeout: the seconds that it may take.
    """

    name: str
    command: list[str]
    threads: int
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout: float = TIMEOUT

    def run(self, *words: str) -> str:
        """Run the program and return its output; raise FailedError with its last words if it fails."""
        environment = {**self.environment, **os.environ}
        environment = {name: value for name, value in environment.items() if name not in UNSET}
        environment |= dict.fromkeys(THREAD_VARIABLES, str(self.threads))
        try:
            outcome = run(*self.command, *words, env=environment, timeout=self.timeout)
        except TimeLimitError:
            raise FailedError(f"not done after {self.timeout:g} s") from None
        if outcome.code != 0:
            raise FailedError(last_words(outcome.err) or f"exit code {outcome.code}")
        return outcome.out

    def measure(self, *words: str) -> dict[str, Any]:
        """Run the program and return its versions and results."""
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "results.json"
            self.run("--out", str(out), *words)
            return json.loads(out.read_text())


def last_words(text: str) -> str:
    """Return the last line that names an error, or else the last line."""
    lines = [line.strip() for line in text.splitlines() if any(map(str.isalpha, line))]
    named = [line for line in lines if "Error: " in line or "error: " in line]
    return (named or lines or [""])[-1]


def has(python: str, package: str) -> bool:
    """Return True if a Python can import a package."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
    try:
        return run(python, "-c", code, timeout=60).code == 0
    except (OSError, TimeLimitError):
        return False


def own_program(script: str = "dbp_steps.py", ranks: int = RANKS, *options: str) -> Program:
    """Return the program that runs a script on ranks with one thread each, with options of dbp run."""
    start = [sys.executable, "-m", "dbp", "run", "-n", str(ranks), *options, "--", str(STEPS / script)]
    return Program("dbp", start, threads=1)


def torchrun(name: str, script: str, ranks: int = RANKS) -> Program:
    """Return the program that runs a script of PyTorch in processes with one thread each."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return Program(name, [*start, str(STEPS / script)], threads=1)


def has_torch(notes: list[str]) -> bool:
    """Return True if PyTorch is installed; if not, note that."""
    found = importlib.util.find_spec("torch") is not None
    if not found:
        notes.append(f"PyTorch is not installed for {sys.executable}")
    return found


def installed_programs(jax_python: str | None, notes: list[str]) -> list[Program]:
    """Return dbp and its installed peers; note the others. JAX is left out without a Python."""
    found = [own_program()]
    if has_torch(notes):
        found.append(torchrun("DDP", "torch_steps.py"))
        found.append(Program("PyTorch", [sys.executable, str(STEPS / "torch_steps.py")], threads=RANKS))
    if jax_python is None:
        return found
    if has(jax_python, "jax"):
        found.append(Program("JAX", [jax_python, str(STEPS / "jax_steps.py")], threads=RANKS))
    else:
        notes.append(f"JAX is not installed for {jax_python}; --jax-python names a Python that has it")
    return found
