"""Fashion-MNIST from its four IDX files: accuracy of several seeds, equal bits on several ranks, kills.

    python benchmarks/fashion.py FOLDER [--seeds 0,1,2] [--ranks 1,2,4] [--kills 12] [--json FILE]

Trains examples/fashion.toml on two ranks for each seed; trains seed 0 on other numbers of ranks and
compares the weights; and starts seed 0 again and again, ending some or all ranks by kill -9 at random
moments, until it has finished, and compares the weights once more.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests/ is beside this folder, and not installed

from tests.processes import ProcessTree, output_of

CONFIG = Path(__file__).parent.parent / "examples" / "fashion.toml"
DBP = [sys.executable, "-m", "dbp"]
LIMIT = 3600.0  # seconds for a training


def dbp(*words: object, **options: object) -> str:
    """Run a command of dbp and return its output."""
    return output_of(*DBP, *words, timeout=LIMIT, **options)


def train_words(ranks: int, seed: int, out: Path) -> list[str]:
    """Return the command line that trains on some ranks."""
    changes = ["--set", f"seed={seed}", "--set", "checkpoint.every_steps=50"]
    changes += ["--set", "data.train=fashion-train.h5", "--set", "data.test=fashion-test.h5"]  # in the current folder
    return ["run", "-n", str(ranks), "--", "train", str(CONFIG), *changes, "--out", str(out)]


def train(folder: Path, ranks: int, seed: int) -> dict[str, object]:
    """Train once, without interruption."""
    out = folder / f"run-{ranks}-{seed}"
    start = time.perf_counter()
    printed = dbp(*train_words(ranks, seed, out), cwd=folder)
    accuracy = float(re.search(r"test: .*accuracy ([\d.]+)", printed).group(1))
    digest = dbp("inspect", "--digest", out).strip()
    seconds = time.perf_counter() - start
    result = {"ranks": ranks, "seed": seed, "accuracy": accuracy, "seconds": round(seconds, 1), "digest": digest}
    print(f"{ranks} ranks  seed {seed}  test accuracy {accuracy:.4f}  {seconds:5.1f} s  {digest[:16]}", flush=True)
    return result


def train_with_kills(folder: Path, kills: int, ranks: int = 2) -> dict[str, object]:
    """Train with seed 0 and kill one or all ranks some times, each time at a random moment."""
    out, rng, resumed = folder / "run-killed", random.Random(), []
    command = [*DBP, *train_words(ranks, 0, out)]
    for kill in range(kills):
        with ProcessTree(*command, cwd=folder) as job:
            time.sleep(rng.uniform(0.5, 3.5))
            pids = job.ranks()
            victims = rng.sample(pids, rng.choice([1, len(pids)])) if pids else []
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
            job.wait(60)
            resumed.append(re.search(r"at epoch \d+, step \d+|$", job.out).group() or "at the start")
        print(f"kill {kill + 1}: {len(victims)} of {len(pids)} ranks; that start went on {resumed[-1]}", flush=True)
    dbp(*train_words(ranks, 0, out), cwd=folder)
    return {"kills": kills, "resumed": resumed, "digest": dbp("inspect", "--digest", out).strip()}


def main() -> int:
    """Measure and print; return exit code 1 if weights differed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with the four .gz files of Fashion-MNIST")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--ranks", default="1,2,4")
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, prefix in (("train", "train"), ("test", "t10k")):
            files = [args.folder / f"{prefix}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
            dbp("convert", "idx", *files, folder / f"fashion-{part}.h5")
        seeds = [train(folder, 2, int(seed)) for seed in args.seeds.split(",")]
        accuracies = [run["accuracy"] for run in seeds]
        print(f"test accuracy: mean {statistics.mean(accuracies):.4f}, lowest {min(accuracies):.4f}")
        others = [train(folder, int(ranks), 0) for ranks in args.ranks.split(",") if ranks != "2"]
        killed = train_with_kills(folder, args.kills)
    digests = {run["digest"] for run in [seeds[0], *others, killed]}
    equal = len(digests) == 1
    print(f"weights of seed 0 on {args.ranks} ranks and after {args.kills} kills: {'equal' if equal else 'DIFFERENT'}")
    if args.json:
        args.json.write_text(json.dumps({"seeds": seeds, "others": others, "killed": killed}, indent=1))
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
