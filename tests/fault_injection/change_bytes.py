"""Read checkpoints with a changed byte or a missing end: `change_bytes.py CHECKPOINT FOLDER CASES`.

CASES is JSON: [["flip", offset, mask], ["cut", length, 0], ["zero", offset, length], ...]. Prints a line of JSON for
each: what was done, and what was wrong: a changed file must be refused, or say exactly what it said before.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from dbp.checkpoint import StoredCheckpoint, digest_arrays, read
from dbp.errors import DataError

LONGEST = 1.0  # CPU seconds until a file is refused; other processes do not count


def all_of(checkpoint: StoredCheckpoint) -> tuple[object, ...]:
    """Return all contents of a checkpoint."""
    return digest_arrays(dict(checkpoint.arrays())), checkpoint.progress, checkpoint.provenance, checkpoint.config


def changed(image: bytes, how: str, place: int, more: int) -> bytes:
    """Return the bytes of a file with one change."""
    if how == "cut":
        return image[:place]
    piece = bytes(more) if how == "zero" else bytes([image[place] ^ more])
    return (image[:place] + piece + image[place + len(piece) :])[: len(image)]


def wrong(path: Path, expected: tuple[object, ...]) -> str:
    """Read a changed file, and return what is wrong, or ""."""
    began = time.process_time()
    try:
        found = all_of(read(path))
    except DataError as error:
        seconds = time.process_time() - began
        return f"hang: refused after {seconds:.1f} CPU s" if seconds > LONGEST or "\n" in str(error) else ""
    return "" if repr(found) == repr(expected) else "wrong bits: it was read, but says something else"


def main() -> None:
    """Carry out each case in a child, as HDF5 may crash."""
    good, folder, cases = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    image, expected = good.read_bytes(), all_of(read(good))
    for case in cases:
        path = folder / "changed.h5"
        path.write_bytes(changed(image, *case))
        sys.stdout.flush()
        if (child := os.fork()) == 0:
            reason = "crash: an exception"
            try:
                reason = wrong(path, expected)
            finally:
                sys.stdout.write(json.dumps({"case": case, "wrong": reason}) + "\n")
                sys.stdout.flush()
                os._exit(0)
        if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            sys.stdout.write(json.dumps({"case": case, "wrong": f"crash: it ended with {code}"}) + "\n")


if __name__ == "__main__":
    main()
