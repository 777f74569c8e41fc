"""Train on one rank while a file call fails, and resume without: `fail_trainings.py FOLDER CASES`.

Started with injector.environment(); CASES is JSON: [[fault, count, k, from], ...], count 0 for all calls from the k-th
on, from 1 if the run resumes from a checkpoint. Trainings are children of this process, which has imported all that
they need. Prints a line of JSON for each case: the case, exit code, what was wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import dbp.training.fit  # noqa: F401  now, not in each child
from dbp.cli import main as command_line
from dbp.saving import saver
from tests.fault_injection.injector import FAULTS, Calls, Fault
from tests.fault_injection.reference_run import CONFIG, ReferenceRun, wrong_in
from tests.processes import LIMIT

KILLED, CRASHED = -int(signal.SIGKILL), 99


def _train(folder: Path, *words: str) -> int:
    return command_line(["train", str(folder.parent / "config.toml"), "--out", str(folder), *words])


def _in_a_child(folder: Path, calls: Calls, fault: Fault | None = None, at: int = 1, count: int = 1) -> tuple[int, int]:
    """Train in a child process with its output in `log`; return its exit code and how many calls met the fault."""
    child = os.fork()
    if child == 0:
        code = CRASHED
        try:
            log = os.open(folder.parent / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            if fault is not None:
                calls.arm(fault, at, count)
            code = _train(folder)
            sys.stdout.flush()
            (folder.parent / "met").write_text(str(calls.disarm()))
        finally:
            os._exit(code)
    ends = time.monotonic() + LIMIT
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            return code, 1 if code == KILLED else int((folder.parent / "met").read_text() or 0)
        if time.monotonic() > ends:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return CRASHED, -1
        time.sleep(0.002)


def _wrong(folder: Path, reference: ReferenceRun, fault: Fault, code: int, met: int) -> str:
    """Return what is wrong after a training with a fault, or ""."""
    text = (folder.parent / "log").read_text()
    if met < 0:
        return f"hang: {text[-300:]}"
    if code not in ((KILLED,) if fault.name == "SIGKILL" and met else (0, 74, 65)) or "Traceback" in text:
        return f"crash: it ended with {code}: {text[-600:]}"
    if code == 65 and "resumed" in text:
        return f"crash: it ended with {code}: {text[-600:]}"
    if reason := wrong_in(folder, reference, finished=code == 0):
        return reason
    if code == 74 and "is lost" in text and reference.is_finished(folder) and "folder" not in text and met == 1:
        return "loss: it said that its last checkpoint is lost, which is there"
    return ""


def case(root: Path, reference: ReferenceRun, calls: Calls, words: tuple[str, int, int, int]) -> dict[str, object]:
    """Train with a fault, then resume; return the case and what was wrong."""
    name, count, at, later = words
    folder, fault = root / "run", FAULTS[name]
    shutil.rmtree(folder, ignore_errors=True)
    if later:
        shutil.copytree(reference.half, folder)
    code, met = _in_a_child(folder, calls, fault, at, count)
    wrong = _wrong(folder, reference, fault, code, met)
    if not wrong:
        again, _ = _in_a_child(folder, calls)
        text = (root / "log").read_text()
        wrong = "" if again == 0 else f"loss: going on ended with {again}: {text[-600:]}"
        wrong = wrong or wrong_in(folder, reference, finished=True, clean=True)
    return {"fault": name, "count": count, "at": at, "later": later, "code": code, "met": met, "wrong": wrong}


def main() -> None:
    """Carry out all cases."""
    root, cases = Path(sys.argv[1]), json.loads(sys.argv[2])
    saver.RETRY_SECONDS = 0.01  # seconds between tries at the last checkpoint
    (root / "config.toml").write_text(CONFIG)
    calls = Calls(root / "run")
    for name in ("whole", "half"):
        (root / "config.toml").write_text(CONFIG.replace("epochs = 2", "epochs = 1") if name == "half" else CONFIG)
        code, _ = _in_a_child(root / name, calls)
        assert code == 0, (root / "log").read_text()
    reference = ReferenceRun.of(root / "whole", root / "half")
    (root / "config.toml").write_text(CONFIG)
    for words in cases:
        sys.stdout.write(json.dumps(case(root, reference, calls, tuple(words))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
