"""Training on data larger than memory: the time of a step, the memory that it takes, and a resumption after a kill.

    python benchmarks/large_data.py [--size 20GB] [--limit 4GB] [--memory 1GB] [--folder FOLDER] [--json FILE]

A file of images like those of data.py in chunks of 256 rows (gzip 4, shuffle) is written, as large as --size when
unpacked; --folder keeps it for the next time. A dense network 784-128-10 is trained on it for one epoch by two ranks,
in windows of a quarter of data.memory, and in a control group of --limit bytes of memory, which counts the cache of
files too (needs root; without it nothing limits the run, and a note says so). The run is killed in the middle of the
epoch, resumed, and compared with an unbroken one. "step" is the mean time of a step, beside that of the same network on
data in one piece in memory, and beside reading the file from end to end; "MB" is the ranks' memory, without files.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from commands import Notes, carry_out, few_cores, footnotes, parsed, parser, say
from data import BATCH, FEATURES, RANKS, made_up, write
from programs import FailedError, Program, last_words, own_program
from tables import line, number

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests/ is beside this folder, and not installed

from tests.processes import ProcessTree, output_of

ROWS, DIFFERENT = 256, 16  # of a chunk, and chunks that are not alike
UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9}
GROUPS = {  # of the two versions of control groups: their folder, and the file with the limit
    Path("/sys/fs/cgroup/memory"): "memory.limit_in_bytes",
    Path("/sys/fs/cgroup"): "memory.max",
}
COMPARED_ROWS = 20_000  # of the data in one piece
LIMIT = 3600.0  # seconds for a training


def number_of_bytes(text: str) -> int:
    """Parse a number of bytes with a unit, such as 20GB."""
    for unit, size in UNITS.items():
        with contextlib.suppress(ValueError):
            return int(float(text.removesuffix(unit)) * size) if text.endswith(unit) else int(text)
    raise argparse.ArgumentTypeError(f"must be a number of bytes, such as 20GB, but is {text!r}")


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    known = parser(__doc__)
    known.add_argument("--size", type=number_of_bytes, default=20 * 10**9, help="of the unpacked data (20GB)")
    known.add_argument("--limit", type=number_of_bytes, default=4 * 10**9, help="of the memory of all ranks (4GB)")
    known.add_argument("--memory", type=number_of_bytes, default=10**9, help="data.memory (1GB)")
    known.add_argument("--folder", type=Path, help="keeps the data")
    return parsed(known)


def write_large(path: Path, size: int) -> int:
    """Write examples in compressed chunks, of which every 16th is the same; return their number."""
    chunks = max(DIFFERENT, size // (ROWS * FEATURES * 4))
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, h5py.File(path, "w") as file:
        images, classes = made_up(DIFFERENT * ROWS)
        write(Path(folder) / "some.h5", images, classes, ROWS)
        with h5py.File(Path(folder) / "some.h5") as some:
            given = some["inputs"]
            packed = [given.id.read_direct_chunk((n * ROWS, 0))[1] for n in range(DIFFERENT)]
        shape = (chunks * ROWS, FEATURES)
        inputs = file.create_dataset("inputs", shape, np.float32, chunks=(ROWS, FEATURES), compression=4, shuffle=True)
        for n in range(chunks):
            inputs.id.write_direct_chunk((n * ROWS, 0), packed[n % DIFFERENT])
        file["targets"] = np.tile(classes, -(-chunks // DIFFERENT))[: chunks * ROWS].astype(np.int64)
    return chunks * ROWS


@contextlib.contextmanager
def limited(limit: int, notes: Notes) -> Iterator[list[str]]:
    """Yield the words before a command that limit its memory, within a with statement."""
    for folder, name in GROUPS.items():
        group = folder / f"dbp-benchmark-{os.getpid()}"
        try:
            group.mkdir()
            (group / name).write_text(str(limit))
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            continue
        try:
            yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
        finally:
            time.sleep(1)  # the processes may still be ending
            with contextlib.suppress(OSError):
                group.rmdir()
        return
    notes.append("no control group could be made (are you root?), so that nothing limits the memory")
    yield []


def program(prefix: list[str]) -> Program:
    """Return the program that trains on two ranks, behind the words that limit its memory."""
    own = own_program("data_steps.py", RANKS)
    return Program("dbp", [*prefix, *own.command], own.threads, timeout=LIMIT)


def kill_in_the_middle(started: Program, words: list[str], folder: Path, steps: int) -> None:
    """Train until a checkpoint of the second half is there, and kill all ranks."""
    with ProcessTree(*started.command, "--out", str(folder.with_name("out.json")), *words) as job:
        end = time.monotonic() + LIMIT
        while not any(int(path.stem[5:]) >= steps // 2 for path in folder.glob("checkpoints/step-*.h5")):
            if time.monotonic() > end or not job.processes():
                raise FailedError(last_words(job.err) or "the training ended before its middle")
            time.sleep(0.2)
        for rank in job.ranks():
            os.kill(rank, signal.SIGKILL)
        job.wait(60)


def read_seconds(path: Path) -> float:
    """Return the seconds that reading a file from end to end takes."""
    start, buffer = time.perf_counter(), bytearray(1 << 22)
    with path.open("rb", buffering=0) as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while file.readinto(buffer):
            pass
    return time.perf_counter() - start


def report(args: argparse.Namespace, notes: Notes) -> dict[str, Any]:
    """Write the data, train, and return all figures."""
    notes += few_cores(RANKS)
    with tempfile.TemporaryDirectory(dir=args.folder) as name, limited(args.limit, notes) as prefix:
        folder = Path(name)
        path = (args.folder or folder) / f"large-{args.size}.h5"
        if not path.exists():
            say(f"writing {path}")
            write_large(path, args.size)
        with h5py.File(path) as file:
            steps = -(-len(file["targets"]) // BATCH)
        write(folder / "piece.h5", *made_up(COMPARED_ROWS), None)
        say("data in one piece")
        piece = own_program("data_steps.py", RANKS).measure("--file", str(folder / "piece.h5"), "--epochs", "3")
        words = ["--file", str(path), "--epochs", "1", "--memory", str(args.memory), "--every", str(max(1, steps // 8))]
        words += ["--window", str(args.memory // (4 * FEATURES) // 4)]
        found: dict[str, Any] = {}
        for title in ("unbroken", "resumed"):
            say(title)
            if title == "resumed":
                kill_in_the_middle(program(prefix), [*words, "--folder", str(folder / title)], folder / title, steps)
            told = program(prefix).measure(*words, "--folder", str(folder / title))
            found[title] = told["results"] | {"digest": digest(folder / title)}
        seconds, size = read_seconds(path), path.stat().st_size
    return told_figures(args, notes, found, piece, {"steps": steps, "read_seconds": seconds, "file_bytes": size})


def digest(folder: Path) -> str:
    """Return the digest of the weights of a run."""
    return output_of(sys.executable, "-m", "dbp", "inspect", "--digest", str(folder), timeout=60).strip()


def told_figures(
    args: argparse.Namespace, notes: Notes, found: dict[str, Any], piece: dict[str, Any], others: dict[str, Any]
) -> dict[str, Any]:
    """Print a table, and return all figures."""
    whole, seconds, in_piece = found["unbroken"], others["read_seconds"], piece["results"]
    step = sum(whole["epochs"]) / whole["steps"]
    rows = {
        "step, ms": step * 1e3,
        "step in one piece, ms": sum(in_piece["epochs"][1:]) / in_piece["steps"] * 1.5e3,
        "reading its part of the file, ms": seconds / others["steps"] * 1e3,
        "until the first step, s": whole["first_step"],
        "MB": whole["node_mb"],
        "MB of the run in one piece": in_piece["node_mb"],
        "data.memory, MB": args.memory / 1e6,
    }
    lines = [line(title.ljust(34), [number(value)]) for title, value in rows.items()]
    equal = found["unbroken"]["digest"] == found["resumed"]["digest"]
    lines.append(f"weights after a kill and a resumption: {'equal' if equal else 'DIFFERENT'}")
    print("\n".join(lines), footnotes(piece["versions"], notes), sep="\n\n")
    return {"figures": rows, "equal": equal, "runs": found, "piece": in_piece, **others}


if __name__ == "__main__":
    sys.exit(carry_out(report, arguments()))
