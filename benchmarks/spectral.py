"""The processor time of a spectral convolution, forward and backward, beside the same by PyTorch's Fourier transforms.

    python benchmarks/spectral.py [--cases 1d-1024,2d-64] [--rounds 5] [--json FILE]

One process with one thread, float32, with both in turn; "forward" is the forward pass alone, without a graph. The table
has medians over the rounds, of times and of the ratio within a round; processor time and ratios say something on a
machine that does other things too. Without PyTorch the table has dbp's times alone.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from commands import Notes, carry_out, footnotes, parsed, parser, positive
from tables import line, number
from threadpoolctl import threadpool_limits

from dbp import nn
from dbp.autodiff import Tensor, pullback

FORWARD, BOTH = "forward", "with backward"
Passes = Mapping[str, Callable[[], object]]  # by their names
CASES: dict[str, tuple[tuple[int, ...], Any]] = {
    "1d-1024": ((20, 1024, 64), nn.SpectralConv1d(64, 16)),
    "1d-8192": ((20, 8192, 64), nn.SpectralConv1d(64, 16)),
    "1d-256-all": ((20, 256, 64), nn.SpectralConv1d(64, 129)),
    "2d-64": ((20, 64, 64, 32), nn.SpectralConv2d(32, 12)),
}


def passes_of_dbp(shape: tuple[int, ...], layer: Any) -> Passes:
    """Return the passes of a layer of dbp on random inputs."""
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    parameters = nn.initial_parameters(layer, x[:2], 0).parameters

    def both() -> object:
        leaves = [*map(Tensor, parameters.values()), Tensor(x)]
        y = layer(nn.use(dict(zip(parameters, leaves, strict=False))), leaves[-1])
        return pullback(y, y.value, leaves)

    return {FORWARD: lambda: layer(nn.use(parameters), x), BOTH: both}


def passes_of_torch(torch: Any, shape: tuple[int, ...], layer: Any) -> Passes:
    """Return the passes of the layer of Li et al. 2021 in PyTorch, with channels first."""
    examples, *lengths, channels = shape
    corners = [(slice(layer.modes),)]
    if len(lengths) == 2:
        corners = [(rows, slice(layer.modes)) for rows in (slice(layer.modes), slice(-layer.modes, None))]
    letters = "xy"[: len(lengths)]
    kept = [layer.modes] * len(lengths)
    weights = [torch.randn(channels, layer.filters, *kept, dtype=torch.cfloat).requires_grad_() for _ in corners]
    x = torch.randn(examples, channels, *lengths).requires_grad_()

    def forward() -> Any:
        spectrum = torch.fft.rfftn(x, dim=[*range(2, x.ndim)])
        y = torch.zeros(examples, layer.filters, *spectrum.shape[2:], dtype=torch.cfloat)
        for corner, w in zip(corners, weights, strict=True):
            part = spectrum[(..., *corner)]
            y[(..., *corner)] = torch.einsum(f"bi{letters},io{letters}->bo{letters}", part, w)
        return torch.fft.irfftn(y, s=lengths, dim=[*range(2, x.ndim)])

    def alone() -> Any:
        with torch.no_grad():
            return forward()

    return {FORWARD: alone, BOTH: lambda: (forward() ** 2).sum().backward()}


def milliseconds(run: Callable[[], object], repeats: int = 5) -> float:
    """Return the processor time of one of several runs."""
    began = time.process_time()
    for _ in range(repeats):
        run()
    return 1e3 * (time.process_time() - began) / repeats


def measured(case: str, rounds: int, torch: Any) -> dict[str, dict[str, float]]:
    """Return median times by pass and program, and the median ratio to PyTorch's."""
    sides = {"dbp": passes_of_dbp(*CASES[case])}
    if torch is not None:
        sides["PyTorch"] = passes_of_torch(torch, *CASES[case])
    for passes in sides.values():
        passes[BOTH]()  # what is made once
    found: dict[str, dict[str, float]] = {}
    for name in (FORWARD, BOTH):
        times = {side: [0.0] * rounds for side in sides}
        for i in range(rounds):
            for side, passes in sides.items():
                times[side][i] = milliseconds(passes[name])
        found[name] = {side: statistics.median(values) for side, values in times.items()}
        if torch is not None:
            found[name]["ratio"] = statistics.median(np.divide(times["PyTorch"], times["dbp"]))
    return found


def report(args: argparse.Namespace, notes: Notes) -> dict[str, Any]:
    """Measure, print a table, and return all figures."""
    try:
        import torch
    except ModuleNotFoundError:
        torch = None
        notes.append("PyTorch is not installed")
    else:
        torch.set_num_threads(1)
    with threadpool_limits(1):
        rows = {case: measured(case, args.rounds, torch) for case in args.cases}
    columns = ("dbp",) if torch is None else ("dbp", "PyTorch", "ratio")
    lines = [line("ms of a processor", columns)]
    lines += [line(f"{c}, {name}", map(number, times.values())) for c, by in rows.items() for name, times in by.items()]
    versions = {"numpy": np.__version__} | ({} if torch is None else {"torch": torch.__version__})
    print("\n".join(lines), footnotes(versions, notes), sep="\n\n")
    return {"summary": rows, "versions": versions}


def case_names(text: str) -> list[str]:
    """Parse names of cases."""
    names = text.split(",")
    if unknown := [name for name in names if name not in CASES]:
        raise argparse.ArgumentTypeError(f"unknown case {unknown[0]!r}; valid: {', '.join(CASES)}")
    return names


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    known = parser(__doc__)
    known.add_argument("--cases", type=case_names, default=list(CASES), help=f"({','.join(CASES)})")
    known.add_argument("--rounds", type=positive, default=5, help="how often both run in turn (5)")
    return parsed(known)


if __name__ == "__main__":
    sys.exit(carry_out(report, arguments()))
