"""dbp and its peers as programs: which are installed, how they are started, what they report."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steps.cases import RANKS

STEPS = Path(__file__).parent / "steps"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # where set, they may keep OpenBLAS from its best kernels
TIMEOUT = 900  # seconds for a program that measures all cases


class FailedError(Exception):
    """A program that measures has ended with an error."""


@dataclass(frozen=True)
class Program:
    """dbp or a peer.

    Args:
        name: for the user.
        command: what starts it.
        threads: of each of its processes.
        environment: variables, besides those of this process.
    """

    name: str
    command: list[str]
    threads: int
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, *words: str) -> str:
        """Run it to its end, and give what it prints; FailedError with its last words if it fails."""
        environment = {**self.environment, **os.environ}
        environment = {name: value for name, value in environment.items() if name not in UNSET}
        environment |= dict.fromkeys(THREAD_VARIABLES, str(self.threads))
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                [*self.command, *words],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
            try:
                printed, _ = process.communicate(timeout=TIMEOUT)
            except BaseException as error:
                end_session(process)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise FailedError(f"not done after {TIMEOUT} s") from None
                raise
            if process.returncode != 0:
                errors.seek(0)
                raise FailedError(last_words(errors.read()) or f"exit code {process.returncode}")
        return printed

    def measure(self, *words: str) -> dict[str, Any]:
        """Its versions and results."""
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "results.json"
            self.run("--out", str(out), *words)
            return json.loads(out.read_text())


def end_session(process: subprocess.Popen[str]) -> None:
    """End a launcher and its ranks: politely, so that it may end what it has started elsewhere, then by force."""
    for number, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 0)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(seconds or None)
        except subprocess.TimeoutExpired:
            continue


def last_words(text: str) -> str:
    """The last line that names an error, else the last line."""
    lines = [line.strip() for line in text.splitlines() if any(map(str.isalpha, line))]
    named = [line for line in lines if "Error: " in line or "error: " in line]
    return (named or lines or [""])[-1]


def has(python: str, package: str) -> bool:
    """Whether that Python can import the package."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
    try:
        return subprocess.run([python, "-c", code], check=False, capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def own_program(script: str = "dbp_steps.py", ranks: int = RANKS, *options: str) -> Program:
    """dbp, on ranks with one thread each, with options of dbp run."""
    start = [sys.executable, "-m", "dbp", "run", "-n", str(ranks), *options, "--", str(STEPS / script)]
    return Program("dbp", start, threads=1)


def torchrun(name: str, script: str, ranks: int = RANKS) -> Program:
    """PyTorch, in processes with one thread each."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return Program(name, [*start, str(STEPS / script)], threads=1)


def has_torch(notes: list[str]) -> bool:
    """Whether PyTorch is installed; if not, that is noted."""
    found = importlib.util.find_spec("torch") is not None
    if not found:
        notes.append(f"PyTorch is not installed for {sys.executable}")
    return found


def installed_programs(jax_python: str | None, notes: list[str]) -> list[Program]:
    """dbp, and those of its peers that are installed; the others are noted. JAX is left out without a Python."""
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
