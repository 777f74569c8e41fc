"""Open checkpoints that may be hostile: `open_files.py GOOD FILE ...`, started with injector.environment().

GOOD holds the arrays that a run expects. Prints a line of JSON for each file: what refused it, in how many CPU seconds,
by how many MB memory has grown. In the log of calls, a file named after each begins its part.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from pathlib import Path

from dbp.checkpoint.reading import opened
from dbp.errors import UserError
from dbp.saving.checkpoint_info import CheckpointInfo, check_arrays


def refused(path: Path, expected: dict[str, tuple[str, tuple[int, ...]]]) -> str:
    """Return why a run would not resume from a file; "" if it would."""
    try:
        with opened(path) as found:
            if reason := check_arrays(CheckpointInfo.of(found), expected):
                return reason
            found.verify()
    except UserError as error:
        return str(error)
    return ""


def main() -> None:
    """Open each file in a process of its own, so that memory is counted from the same start."""
    good, *files = map(Path, sys.argv[1:])
    with opened(good) as found:
        earlier = CheckpointInfo.of(found)
    expected = {n: e for n, e in earlier.arrays.items() if n.startswith(("model/", "optimizer/"))}
    assert not refused(good, expected)
    for path in files:
        child = os.fork()
        if child == 0:
            with contextlib.suppress(OSError):
                os.open(f"/nowhere/{path.name}", os.O_RDONLY)
            before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
            reason = refused(path, expected)
            measured = {"refused": reason, "seconds": time.process_time() - began}
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            sys.stdout.write(json.dumps({"file": path.name, **measured, "grown_mb": grown}) + "\n")
            sys.stdout.flush()
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code == 0, f"{path} has ended a process with {code}"


if __name__ == "__main__":
    main()
