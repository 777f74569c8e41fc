"""PyTorch's side of the comparison on CURVES: Adam or L-BFGS in one process with two threads, from dbp's weights."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  the name that everyone gives it
from torch import nn

BATCH, RATE = 200, 1e-3  # of Adam
POINTS = 60  # of a run, about; finding the error of all images counts for none of its time
CODE = 6  # units of the layer without activation in the middle
Point = dict[str, float]


def autoencoder(start: dict[str, np.ndarray]) -> nn.Sequential:
    """Return the network with these weights: sigmoid units but for the code and the output, which is before them."""
    count, layers = len(start) // 2, list[nn.Module]()
    for i in range(1, count + 1):
        weight, bias = start[f"dense_{i}/weight"], start[f"dense_{i}/bias"]
        layer = nn.Linear(*weight.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weight.T))
            layer.bias.copy_(torch.from_numpy(bias))
        layers += [layer] if len(bias) == CODE or i == count else [layer, nn.Sigmoid()]
    return nn.Sequential(*layers)


def cost_of(outputs: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Return the mean over images of the cross-entropy of all pixels."""
    return F.binary_cross_entropy_with_logits(outputs, images, reduction="sum") / len(images)


def squared_error(outputs: torch.Tensor, images: torch.Tensor) -> float:
    """Return the mean over images of the squared errors of all pixels."""
    with torch.no_grad():
        return float(((torch.sigmoid(outputs) - images) ** 2).sum() / len(images))


def adam(model: nn.Module, images: torch.Tensor, seconds: float) -> Iterator[Point]:
    """Train with Adam on mini-batches, and yield points."""
    optimizer, steps, due = torch.optim.Adam(model.parameters(), lr=RATE, fused=True), 0, 0.0
    used, cpu, start, cpu_start = 0.0, 0.0, time.perf_counter(), time.process_time()
    while True:
        for chosen in torch.randperm(len(images)).split(BATCH):
            now = used + time.perf_counter() - start
            if now >= due:
                used, cpu, due = now, cpu + time.process_time() - cpu_start, now + seconds / POINTS
                with torch.no_grad():
                    outputs = model(images)
                error, cost = squared_error(outputs, images), float(cost_of(outputs, images))
                yield {"seconds": used, "cpu": cpu, "squared_error": error, "cost": cost, "steps": steps}
                if used >= seconds:
                    return
                start, cpu_start = time.perf_counter(), time.process_time()
            batch, steps = images[chosen], steps + 1
            optimizer.zero_grad()
            cost_of(model(batch), batch).backward()
            optimizer.step()


class _OutOfTimeError(Exception):
    """The end of a run of L-BFGS, within an evaluation."""


def lbfgs(model: nn.Module, images: torch.Tensor, seconds: float) -> list[Point]:
    """Train with L-BFGS on all images, and return a point per evaluation; finding the error takes next to no time."""
    found: list[Point] = []
    start, cpu_start = time.perf_counter(), time.process_time()
    method = torch.optim.LBFGS(
        model.parameters(),
        max_iter=1_000_000,
        max_eval=1_000_000,
        history_size=10,
        line_search_fn="strong_wolfe",
        tolerance_change=0.0,
    )

    def closure() -> torch.Tensor:
        method.zero_grad()
        outputs = model(images)
        cost = cost_of(outputs, images)
        point = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu_start}
        found.append(point | {"squared_error": squared_error(outputs, images), "cost": float(cost)})
        if found[-1]["seconds"] >= seconds:
            raise _OutOfTimeError
        cost.backward()
        return cost

    with contextlib.suppress(_OutOfTimeError):
        method.step(closure)
    return found


def main() -> None:
    """Run the method that the command line names, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, required=True, help="dbp's images and weights")
    parser.add_argument("--method", choices=("adam", "lbfgs"), required=True)
    parser.add_argument("--seconds", type=float, required=True)
    args = parser.parse_args()
    torch.manual_seed(0)
    given = dict(np.load(args.start))
    images = torch.from_numpy(given.pop("images"))
    method = {"adam": adam, "lbfgs": lbfgs}[args.method]
    found = list(method(autoencoder(given), images, args.seconds))
    args.out.write_text(json.dumps({"versions": {"torch": torch.__version__}, "points": found}))


if __name__ == "__main__":
    main()
