"""Save checkpoints while one file call fails, for every call in turn: `fail_saves.py FOLDER CASES`.

Started with injector.environment(); CASES is JSON: [[fault, count, first, step], ...], count 0 for all calls from the
k-th on. Each save runs in a child of this process, so that one that is killed is one like the others. Prints a line of
JSON for each: fault, count, k, what was wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from dbp.checkpoint import CheckpointFolder, Keep, StoredCheckpoint, digest_arrays
from dbp.errors import StorageError
from tests.fault_injection.injector import ALWAYS, FAULTS, Calls, Fault

SAVED, REFUSED, NOT_AGAIN, UNTOUCHED = 0, 10, 11, 12  # exit codes of a child
RANDOM = np.random.default_rng(1)
LAYERS = {f"dense_{i}/{name}": RANDOM.random(shape) for i in (1, 2) for name, shape in (("w", (40, 30)), ("b", (30,)))}
OLD = StoredCheckpoint(LAYERS, {"mean": LAYERS}, history={"cost": np.ones(3)}, progress={"step": 5}, config="a = 1\n")
NEW = replace(OLD, model={name: array + 1 for name, array in LAYERS.items()}, progress={"step": 10})


def _save(folder: CheckpointFolder, calls: Calls, fault: Fault, at: int, count: int) -> int:
    """Save with the fault, and once more without it if that failed; return the child's exit code."""
    calls.arm(fault, at, count)
    try:
        folder.tidy(folder.save(NEW, 10))
    except StorageError:
        calls.disarm()
        try:
            folder.save(NEW, 10)
        except StorageError:
            return NOT_AGAIN
        return REFUSED
    return SAVED if calls.disarm() else UNTOUCHED


def _child(folder: CheckpointFolder, calls: Calls, fault: Fault, at: int, count: int) -> int:
    """Save in a child process, and return its exit code; negative if a signal ended it."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            code = _save(folder, calls, fault, at, count)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _wrong(folder: CheckpointFolder, code: int, before: bytes, fault: Fault) -> str:
    """Return what is wrong after a save, or ""."""
    if code not in (SAVED, REFUSED, UNTOUCHED) and not (fault.name == "SIGKILL" and code == -9):
        return f"hang or crash: it ended with {code}" if code != NOT_AGAIN else "loss: saving again failed"
    if not folder.path_of(5).exists() or folder.path_of(5).read_bytes() != before:
        return "loss: the older checkpoint has changed"
    with folder.newest() as newest:
        if newest.found is None or newest.passed_over:
            return f"loss: {newest.passed_over}"
        found = newest.found.load()
    expected = OLD if found.progress["step"] == 5 else NEW
    if digest_arrays(dict(found.arrays())) != digest_arrays(dict(expected.arrays())) or found.config != OLD.config:
        return "wrong bits: other arrays than were saved"
    if code != -9 and found.progress["step"] != 10:
        return "loss: what was said to be saved is not there"
    folder.prepare()
    left = [path.name for path in folder.path.iterdir() if path not in (folder.path_of(5), folder.path_of(10))]
    return f"leftovers: {left}" if left else ""


def sweep(root: Path, calls: Calls, fault: Fault, count: int, first: int, step: int) -> None:
    """Let every k-th call fail, or every step-th k, until a save meets no fault."""
    source = CheckpointFolder(root / "source", Keep(2))
    source.prepare()
    source.save(OLD, 5)
    before, at, code = source.path_of(5).read_bytes(), first, SAVED
    while code != UNTOUCHED:
        folder = CheckpointFolder(root / "run", Keep(2))
        shutil.rmtree(folder.path, ignore_errors=True)
        shutil.copytree(source.path, folder.path)
        code = _child(folder, calls, fault, at, count)
        result = {"fault": fault.name, "count": count, "at": at, "wrong": _wrong(folder, code, before, fault)}
        if code != UNTOUCHED or result["wrong"]:
            sys.stdout.write(json.dumps(result) + "\n")
        at += step


def main() -> None:
    """Carry out all cases."""
    root, cases = Path(sys.argv[1]), json.loads(sys.argv[2])
    calls = Calls(root / "run")
    for name, count, first, step in cases:
        assert count >= ALWAYS
        sweep(root, calls, FAULTS[name], count, first, step)


if __name__ == "__main__":
    main()
