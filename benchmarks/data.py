"""Training on data in one piece and in compressed chunks, beside PyTorch's DataLoader over h5py and h5py alone.

    python benchmarks/data.py [--fashion FOLDER] [--examples 20000] [--epochs 10] [--rounds 3] [--without-torch]
    python benchmarks/data.py --windows 256,1024,4096 --fashion FOLDER    test accuracy against the size of the window

A dense network 784-128-10 is trained with Adam on two ranks, mini-batches of 256, on the first examples of
Fashion-MNIST as float32 over 255: in one piece, in chunks of 256 rows and in chunks of 3 MB (gzip 4, shuffle).
"held" is a step from the second epoch on where unpacked rows fit in data.memory; "all" the mean of all epochs, over
that of one piece. "bounded" is a step where they do not fit (data.memory of half the rows, a window of a sixth of
them), with zlib and with the quickest library installed, beside its bound: (step in one piece + unpacking of its rows,
both in core seconds) / cores. "start reads" are the chunks that all ranks unpack before the first step, and "reads"
those in an epoch, over their number; "MB" is the memory of the node beyond that of the same run in one piece, without
files, and "of memory" its ratio to data.memory, or to all rows where they fit. PyTorch is one process with two threads
and 0, 2 or 4 workers; h5py reads alone. Both run in the first round and the last, and are stopped after --seconds, but
take three steps. FOLDER has the four .gz files of Fashion-MNIST; without it images are made up.

With --windows all examples are sorted by class, the worst case for a shuffle by chunks, and a round is a seed.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from commands import Notes, carry_out, counts, few_cores, footnotes, parsed, parser, positive, say
from programs import STEPS, Program, has_torch, own_program
from tables import line, number

RANKS, BATCH, FEATURES = 2, 256, 784
LAYOUTS = {"one piece": None, "chunks of 256 rows": 256, "chunks of 3 MB": 3_000_000 // (4 * FEATURES)}
WORKERS = (0, 2, 4)
LIBRARIES = ("zlib", "quickest")  # that inflate
PARTS = {"train": "train", "test": "t10k"}


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    known = parser(__doc__)
    known.add_argument("--fashion", type=Path, metavar="FOLDER", help="with the four .gz files of Fashion-MNIST")
    known.add_argument("--examples", type=positive, default=20_000)
    known.add_argument("--epochs", type=positive, default=10)
    known.add_argument("--rounds", type=positive, default=3, help="how often all run in turn (3)")
    known.add_argument("--seconds", type=float, default=2.0, help="for each measurement of a peer (2)")
    known.add_argument("--without-torch", action="store_true", help="leave PyTorch out")
    known.add_argument("--windows", type=counts, help="measure the accuracy for windows of so many examples")
    args = parsed(known)
    if args.windows and args.fashion is None:
        known.error("--windows needs --fashion")
    return args


# --- data ---------------------------------------------------------------------------------------------


def fashion(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images and classes of Fashion-MNIST."""
    images, classes = (
        np.frombuffer(gzip.decompress((folder / f"{PARTS[part]}-{kind}-ubyte.gz").read_bytes()), np.uint8)
        for kind in ("images-idx3", "labels-idx1")
    )
    return images[16:].reshape(-1, FEATURES), classes[8:]


def made_up(examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images that can be compressed about as well, and classes."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (examples, FEATURES), np.uint8) * (rng.random((examples, FEATURES)) < 0.5)
    return images, rng.integers(0, 10, examples, np.uint8)


def write(path: Path, images: np.ndarray, classes: np.ndarray, rows: int | None) -> None:
    """Write examples in one piece, or in compressed chunks of some rows."""
    with h5py.File(path, "w") as file:
        for name, values in (("inputs", (images / 255).astype(np.float32)), ("targets", classes.astype(np.int64))):
            packed: dict[str, Any] = {}
            if rows is not None and name == "inputs":
                packed = {"chunks": (min(rows, len(values)), FEATURES), "compression": 4, "shuffle": True}
            file.create_dataset(name, data=values, **packed)


# --- speed --------------------------------------------------------------------------------------------


def trained(path: Path, args: argparse.Namespace, *words: str) -> dict[str, Any]:
    """Train once on two ranks and return what was measured."""
    return own_program("data_steps.py", RANKS).measure("--file", str(path), "--epochs", str(args.epochs), *words)


def step_ms(found: dict[str, Any], first: int) -> float:
    """Return the milliseconds of a step, from an epoch on."""
    epochs = found["epochs"][first:] or found["epochs"]
    return statistics.mean(epochs) * len(found["epochs"]) / found["steps"] * 1e3


def one_round(
    folder: Path, args: argparse.Namespace, peers: dict[str, tuple[str, ...]], versions: dict[str, str]
) -> dict[str, Any]:
    """Measure all layouts once, one after the other; the words that start each peer are given by its name."""
    found: dict[str, Any] = {}

    def note(title: str, told: dict[str, Any]) -> None:
        versions.update(told["versions"])
        found[title] = told["results"]

    size = args.examples * FEATURES * 4
    for layout, rows in LAYOUTS.items():
        path = folder / f"{layout}.h5"
        say(f"  {layout}")
        note(layout, trained(path, args))
        if rows is not None:
            words = ("--memory", str(size // 2), "--window", str(args.examples // 6))
            for library in LIBRARIES:
                note(f"{layout}, bounded {library}", trained(path, args, *words, "--library", library))
                unpacking = own_program("data_steps.py", 1)
                note(f"{layout}, {library}", unpacking.measure("--file", str(path), "--unpack", "--library", library))
        for name, words in peers.items():
            note(f"{layout}, {name}", peer(1 if name == "h5py" else RANKS, path, args, *words))
    return found


def peer(threads: int, path: Path, args: argparse.Namespace, *words: str) -> dict[str, Any]:
    """Measure PyTorch or h5py."""
    program = Program("peer", [sys.executable, str(STEPS / "data_peers.py")], threads)
    return program.measure("--file", str(path), "--seconds", str(args.seconds), *words)


def figures(found: dict[str, Any], layout: str, args: argparse.Namespace) -> dict[str, float | None]:
    """Return the figures of a layout in one round."""
    plain, here = found["one piece"], found[layout]
    row: dict[str, float | None] = {
        "held": step_ms(here, 1),
        "held/piece": step_ms(here, 1) / step_ms(plain, 1),
        "all/piece": step_ms(here, 0) / step_ms(plain, 0),
    }
    if LAYOUTS[layout] is not None:
        row |= bounded_figures(found, layout, args)
    for name in (*(f"torch {workers}" for workers in WORKERS), "h5py"):
        row[name] = found.get(f"{layout}, {name}", {}).get("ms")
    return row


def bounded_figures(found: dict[str, Any], layout: str, args: argparse.Namespace) -> dict[str, float | None]:
    """Return the figures of a layout in chunks in one round."""
    plain, here, row = found["one piece"], found[layout], dict[str, float | None]()
    chunks, steps = -(-args.examples // (LAYOUTS[layout] or 1)), -(-args.examples // BATCH)
    all_mb = args.examples * (FEATURES * 4 + 8) / 1e6
    for library in LIBRARIES:
        bounded = found[f"{layout}, bounded {library}"]
        unpacking = found[f"{layout}, {library}"]["seconds"] / steps * 1e3
        row[f"step {library}"], row[f"bound {library}"] = step_ms(bounded, 1), step_ms(plain, 1) + unpacking / RANKS
        row[f"ratio {library}"] = step_ms(bounded, 1) / (step_ms(plain, 1) + unpacking / RANKS)
    for name, told, memory in (("held", here, all_mb), ("bounded", bounded, args.examples * FEATURES * 2 / 1e6)):
        row[f"start reads {name}"] = told["chunks_at_start"] / chunks
        row[f"reads {name}"] = told["chunks_read"] / chunks / len(told["epochs"])
        row[f"MB {name}"] = told["node_mb"] - plain["node_mb"]
        row[f"of memory {name}"] = (told["node_mb"] - plain["node_mb"]) / memory
    return row


def medians(rows: list[dict[str, float | None]]) -> dict[str, float | None]:
    """Return the median of each figure over rounds."""

    def median(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return statistics.median(known) if known else None

    return {name: median([row.get(name) for row in rows]) for name in rows[0]}


def table(title: str, rows: dict[str, dict[str, float | None]], columns: list[str], of: str = "") -> str:
    """Return a table with a line for each layout.

    Args:
        title: of the table.
        rows: figures by layout and name.
        columns: the names of figures.
        of: what follows these names.
    """
    lines = [line(title, (f"{column} " for column in columns))]
    return "\n".join(
        [*lines, *(line(name, (number(row.get(f"{c} {of}".strip())) for c in columns)) for name, row in rows.items())]
    )


def report_speed(folder: Path, args: argparse.Namespace, notes: Notes) -> dict[str, Any]:
    """Measure some rounds, print tables, and return all figures."""
    images, classes = fashion(args.fashion, "train") if args.fashion else made_up(args.examples)
    args.examples = min(args.examples, len(images))
    for layout, rows in LAYOUTS.items():
        write(folder / f"{layout}.h5", images[: args.examples], classes[: args.examples], rows)
    versions, rounds, peers = dict[str, str](), [], {"h5py": ()}
    if not args.without_torch and has_torch(notes):
        peers |= {f"torch {workers}": ("--workers", str(workers)) for workers in WORKERS}
    for number_of_round in range(1, args.rounds + 1):
        say(f"round {number_of_round} of {args.rounds}")
        is_outer = number_of_round in (1, args.rounds)  # peers take minutes, and differ by far more than rounds do
        rounds.append(one_round(folder, args, peers if is_outer else {}, versions))
    rows = {layout: medians([figures(found, layout, args) for found in rounds]) for layout in LAYOUTS}
    chunked = {layout: rows[layout] for layout in LAYOUTS if LAYOUTS[layout] is not None}
    parts = [table("ms per step", rows, ["held", "held/piece", "all/piece"])]
    parts += [table(f"bounded, {library}", chunked, ["step", "bound", "ratio"], library) for library in LIBRARIES]
    parts += [table("peers", rows, [*(f"torch {workers}" for workers in WORKERS), "h5py"])]
    use = ["start reads", "reads", "MB", "of memory"]
    parts += [table(memory, chunked, use, memory) for memory in ("held", "bounded")]
    print(*parts, footnotes(versions, notes), sep="\n\n")
    return {"rows": rows, "rounds": rounds, "versions": versions}


# --- the quality of the shuffle -----------------------------------------------------------------------


def report_windows(folder: Path, args: argparse.Namespace, notes: Notes) -> dict[str, Any]:
    """Train on sorted examples with windows of several sizes, print accuracies, and return them."""
    for part in PARTS:
        images, classes = fashion(args.fashion, part)
        order = np.argsort(classes, kind="stable")
        write(folder / f"{part}.h5", images[order], classes[order], 256)
    variants = {f"{window:,} examples": ("--window", str(window)) for window in args.windows}
    variants["rows one by one"] = ("--order", "rows")
    found: dict[str, list[float]] = {title: [] for title in variants}
    for seed in range(args.rounds):
        say(f"seed {seed} of {args.rounds}")
        for title, words in variants.items():
            test = ("--test", str(folder / "test.h5"), "--seed", str(seed))
            told = trained(folder / "train.h5", args, *test, *words)
            found[title].append(told["results"]["accuracy"])
    rows = {title: [statistics.mean(values), min(values), max(values)] for title, values in found.items()}
    lines = [line("test accuracy", ["mean ", "least ", "most "])]
    lines += [line(title, [number(value, 4) for value in row]) for title, row in rows.items()]
    print("\n".join(lines), footnotes(told["versions"], notes), sep="\n\n")
    return {"accuracy": found, "versions": told["versions"]}


def report(args: argparse.Namespace, notes: Notes) -> dict[str, Any]:
    """Measure what the command line names."""
    notes += few_cores(RANKS)
    with tempfile.TemporaryDirectory() as name:
        return (report_windows if args.windows else report_speed)(Path(name), args, notes)


if __name__ == "__main__":
    sys.exit(carry_out(report, arguments()))
