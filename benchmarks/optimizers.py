"""What optimizers reach by how many evaluations and how much time, all on one problem; L-BFGS beside SciPy's.

    python benchmarks/optimizers.py [--fashion FOLDER] [--plot FILE.svg] [--json FILE]
    python benchmarks/optimizers.py --problem curves --seconds 600 [--json FILE]

On the digits all methods train an autoencoder (64-16-8-16-64, tanh) of the digits that come with dbp, in float64 on two
ranks, those of first order on mini-batches with a learning rate that was found by trying, all others on all examples at
once. Cost is that over all examples; "passes" are evaluations of the cost over all examples, with or without its
gradient, and products with second derivatives. Finding the cost of mini-batch methods anew after each epoch counts
neither as a pass nor as time.

With a folder that holds train-images-idx3-ubyte.gz of Fashion-MNIST, L-BFGS trains a deep autoencoder
(784-256-64-256-784, tanh, 5,000 images, float64) on two ranks, and SciPy's L-BFGS-B the same cost from the same weights
on one rank for 100 iterations; dbp's are counted until it has come to SciPy's cost. "outside" is the part of the time
that was not spent in the cost and its gradient.

On CURVES (the deep autoencoder of examples/curves.py, 20,000 images, float32) methods on two ranks, and Adam and L-BFGS
of PyTorch on two threads, start from the same weights. The squared error is that of all training images; finding it
counts for no time. A method whose figures the JSON file has already is not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from commands import Notes, carry_out, footnotes, parsed, parser, positive, say
from curves_comparison import METHODS as CURVES_METHODS
from curves_comparison import compare as compare_on_curves
from programs import has, own_program
from tables import line, number

PROGRAM, RANKS = "optimizer_runs.py", 2
IMAGES = "train-images-idx3-ubyte.gz"
SCIPY = ("L-BFGS-B", "CG", "TNC", "Newton-CG", "trust-ncg", "trust-krylov")
Points = list[dict[str, float]]

# Settings of each run on the digits: what differs from all examples at once and a constant learning rate.
SMALL = {"batch_size": 48, "schedule": {"kind": "cosine"}}
RATES = {
    "SGD": ("sgd", 0.3),
    "momentum": ("sgd", 0.1),
    "Adagrad": ("adagrad", 0.03),
    "RMSprop": ("rmsprop", 1e-3),
    "Adam": ("adam", 3e-3),
    "NAdam": ("nadam", 3e-3),
    "LARS": ("lars", 3.0),
    "LAMB": ("lamb", 0.005),
    "Lion": ("lion", 3e-4),
    "Muon": ("muon", 0.01),
}
RUNS: dict[str, dict[str, Any]] = {
    **{name: SMALL | {"optimizer": {"kind": kind, "learning_rate": rate}} for name, (kind, rate) in RATES.items()},
    "L-BFGS": {"optimizer": {"kind": "lbfgs"}},
    "Hessian-free": {"optimizer": {"kind": "newton", "damping": 0.01}},
    "Hessian-free factors": {
        "optimizer": {"kind": "newton", "damping": 0.01, "preconditioner": "kronecker", "iterations": 10}
    },
    "K-FAC": {"optimizer": {"kind": "kfac", "part": 1.0, "factor_part": 1.0}},
    "Newton trust region": {"optimizer": {"kind": "newton", "curvature": "hessian", "control": "trust_region"}},
    "Levenberg-Marquardt": {"optimizer": {"kind": "levenberg_marquardt"}},
    **{f"SciPy {method}": {"optimizer": {"kind": "scipy", "method": method}} for method in SCIPY},
}
RUNS["momentum"]["optimizer"] |= {"momentum": 0.9}
PASSES = 1500  # of each method, about


def passes(point: dict[str, float]) -> float:
    """Return the passes of a point: evaluations and products."""
    return point["evaluations"] + point["products"]


def cost_at(points: Points, value: str, limit: float) -> float | None:
    """Return the lowest cost within a number of passes, or of seconds."""
    of = {"passes": passes, "seconds": lambda point: point["seconds"]}[value]
    return min((point["cost"] for point in points if of(point) <= limit), default=None)


def method_table(results: dict[str, Any]) -> str:
    """Return a table with the lowest cost of each method within several numbers of passes and seconds."""
    limits = [("passes", 30), ("passes", 150), ("passes", 1500), ("seconds", 1), ("seconds", 5), ("seconds", 20)]
    lines = [line("lowest cost within", (f"{limit} {value} " for value, limit in limits))]
    for name, result in results.items():
        costs = [cost_at(result["points"], value, limit) for value, limit in limits]
        lines.append(line(name, (number(cost, 5) for cost in costs)))
    return "\n".join(lines)


def peer_table(own: dict[str, Any], peer: dict[str, Any]) -> str:
    """Return a table that compares L-BFGS, run until it reaches SciPy's cost, with SciPy."""
    titles = ("iterations", "evaluations", "cost", "seconds", "outside")
    lines, goal = [line("deep autoencoder", (f"{title} " for title in titles))], peer["points"][-1]
    reached = first_at(own["points"], goal["cost"])
    for name, result, point in (("dbp, 2 ranks", own, reached or own["points"][-1]), ("SciPy, 1 rank", peer, goal)):
        part = f"{result['outside'] / result['points'][-1]['seconds']:.1%} "
        cells = [number(result["points"].index(point) + 1, 0), number(point["evaluations"], 0)]
        lines.append(line(name, [*cells, number(point["cost"], 6), number(point["seconds"], 1), part]))
    if reached is None:
        return "\n".join([*lines, "dbp has not come to the cost that SciPy came to"])
    ratio = reached["seconds"] / goal["seconds"]
    return "\n".join([*lines, f"dbp came to SciPy's cost in {ratio:.2f} of its time"])


def first_at(points: Points, cost: float) -> dict[str, float] | None:
    """Return the first point with at most a cost."""
    return next((point for point in points if point["cost"] <= cost), None)


def _thinned(points: Points, of: Callable[[dict[str, float]], float]) -> Points:
    """Return the points that a plot with a logarithmic axis can show apart."""
    kept = points[:1]
    for point in points[1:]:
        if of(point) > 1.03 * of(kept[-1]):
            kept.append(point)
    return [*kept, points[-1]]


def plot(results: dict[str, Any], path: Path) -> None:
    """Plot cost against passes, and against time."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 5), sharey=True, layout="constrained")
    colors = plt.get_cmap("tab20").colors
    for ax, (title, of) in zip(
        axes, (("passes over the data", passes), ("seconds", lambda p: p["seconds"])), strict=True
    ):
        for i, (name, result) in enumerate(results.items()):
            points = _thinned(result["points"], of)
            dashed = "--" if "batch_size" in RUNS[name] else "-"
            x, y = [of(p) for p in points], [p["cost"] for p in points]
            ax.plot(x, y, dashed, label=name, color=colors[i % len(colors)], linewidth=1.3)
        ax.set(xlabel=title, xscale="log", yscale="log")
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("cost over all examples")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.savefig(path)


def compare_with_scipy(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Run L-BFGS and SciPy on the deep autoencoder."""
    runs = json.dumps({"L-BFGS": {"optimizer": {"kind": "lbfgs"}}})
    words = ["--images", str(folder / IMAGES), "--runs", runs, "--examples", str(args.examples)]
    say("the deep autoencoder: dbp on two ranks")
    more = ["--iterations", str(args.iterations * 5 // 4)]  # to come to SciPy's cost, whatever iterations that takes
    own = own_program(PROGRAM, RANKS).measure(*words, *more)["results"]["L-BFGS"]
    say("the deep autoencoder: SciPy on one rank")
    peer = own_program(PROGRAM, 1).measure(*words, "--iterations", str(args.iterations), "--scipy")["results"]["L-BFGS"]
    print(peer_table(own, peer), end="\n\n")
    return {"dbp": own, "scipy": peer}


def report(args: argparse.Namespace, notes: Notes) -> dict[str, Any]:
    """Run all methods, print tables, plot, and return all figures."""
    if args.problem == "curves":
        return compare_on_curves(args, notes)
    told: dict[str, Any] = {}
    with_scipy = has(sys.executable, "scipy")
    if args.fashion and with_scipy:
        told["deep autoencoder"] = compare_with_scipy(args.fashion, args)
    if not with_scipy:
        notes.append(f"SciPy is not installed for {sys.executable}")
    runs = {name: table for name, table in RUNS.items() if with_scipy or table["optimizer"]["kind"] != "scipy"}
    if args.methods:
        runs = {name: table for name, table in runs.items() if name in args.methods.split(",")}
    results, versions = {}, {}
    for name, table in runs.items():
        say(f"the digits: {name}")
        limits = ["--seconds", str(args.seconds), "--passes", str(args.passes), "--iterations", str(args.passes)]
        found = own_program(PROGRAM, RANKS).measure("--runs", json.dumps({name: table}), *limits)
        results |= found["results"]
        versions = found["versions"]
    print(method_table(results), footnotes(versions, notes), sep="\n\n")
    if args.plot:
        plot(results, args.plot)
    return told | {"digits": results, "versions": versions}


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    known = parser(__doc__)
    known.add_argument("--problem", choices=("digits", "curves"), default="digits", help="what is trained (digits)")
    known.add_argument("--images", type=positive, default=20_000, help="of CURVES (20000)")
    known.add_argument("--fashion", type=Path, metavar="FOLDER", help=f"with {IMAGES}, for the comparison with SciPy")
    known.add_argument("--examples", type=positive, default=5000, help="of that comparison (5000)")
    known.add_argument("--iterations", type=positive, default=100, help="of that comparison (100)")
    known.add_argument("--methods", help="some of the methods, with commas between (all)")
    known.add_argument("--passes", type=positive, default=PASSES, help=f"of each method on the digits ({PASSES})")
    known.add_argument("--seconds", type=positive, default=30, help="at most for each method (30)")
    known.add_argument("--plot", type=Path, metavar="FILE", help="draw cost against passes and time (.svg, .png)")
    args = parsed(known)
    if args.fashion and not (args.fashion / IMAGES).exists():
        known.error(f"--fashion: there is no {args.fashion / IMAGES}")
    if args.plot and not has(sys.executable, "matplotlib"):
        known.error("--plot needs matplotlib, which is not installed: pip install 'dbp-mpi[plot]'")
    valid = CURVES_METHODS if args.problem == "curves" else RUNS
    if args.methods and (wrong := [name for name in args.methods.split(",") if name not in valid]):
        known.error(f"--methods: there is no {wrong[0]!r}; valid: {', '.join(valid)}")
    return args


if __name__ == "__main__":
    sys.exit(carry_out(report, arguments()))
