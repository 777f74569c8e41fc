"""PyTorch's side: all examples in inference_mode, in one process with two threads."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  the name that everyone gives it
from cases import CLASSES, RANKS
from measure import Alone, Report, Step
from passes import EVALUATE, FILE, Pass
from torch import nn
from torch_layers import model_of
from torch_steps import versions

BATCHES = (64, 256, 1024)  # sizes, of which the fastest is taken


class Examples:
    """The examples of a pass, in memory or in a file, in the layout in which the network takes them.

    Args:
        one: the pass.
        channels_last: the layout of images.
        folder: for the file.
    """

    def __init__(self, one: Pass, channels_last: bool, folder: Path):
        case, rng = one.case, np.random.default_rng(0)
        x = rng.standard_normal((one.examples, *case.shape), np.float32)
        if case.images and not channels_last:
            x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        targets = x if case.autoencoder else rng.integers(CLASSES, size=one.examples)
        self._columns: tuple[Any, ...] = x, targets
        self._is_turned, self._count = channels_last, one.examples
        if one.source == FILE:
            path = folder / "data.h5"
            with h5py.File(path, "w") as file:
                file["inputs"], file["targets"] = self._columns
            self._file = h5py.File(path)
            self._columns = self._file["inputs"], self._file["targets"]

    def batches(self, size: int, with_targets: bool) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        """Yield inputs and targets, so many at a time."""
        for start in range(0, self._count, size):
            x, *others = (
                torch.from_numpy(column[start : start + size]) for column in self._columns[: 1 + with_targets]
            )
            yield x.permute(0, 3, 1, 2) if self._is_turned else x, others[0] if others else None


def pass_of(one: Pass, model: nn.Module, examples: Examples, size: int) -> Step:
    """Return a function that makes the pass with mini-batches of a size."""

    def evaluate() -> tuple[float, int]:
        cost, hits = 0.0, 0
        for x, targets in examples.batches(size, True):
            outputs = model(x)
            if one.case.autoencoder:
                cost += F.mse_loss(outputs, targets, reduction="sum").item()
            else:
                cost += F.cross_entropy(outputs, targets, reduction="sum").item()
                hits += int((outputs.argmax(1) == targets).sum())
        return cost, hits

    def predict() -> torch.Tensor:
        return torch.cat([model(x) for x, _ in examples.batches(size, False)])

    return torch.inference_mode()(evaluate if one.work == EVALUATE else predict)


def trial(step: Step) -> float:
    """Return the seconds of the second of two calls."""
    step()
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main() -> None:
    """Measure each pass in turn, images in both layouts."""
    report = Report(__doc__, Pass.of)
    torch.set_num_threads(RANKS)
    report.versions = versions()
    for name, one in report.cases.items():
        for channels_last in (False, True) if one.case.images else (False,):
            torch.manual_seed(0)
            with tempfile.TemporaryDirectory() as folder:
                examples = Examples(one, channels_last, Path(folder))
                first, _ = next(examples.batches(1, False))
                model = model_of(one.case.network, first).eval()
                if channels_last:
                    model = model.to(memory_format=torch.channels_last)
                steps = [pass_of(one, model, examples, size) for size in BATCHES]
                report.add(
                    "PyTorch channels last" if channels_last else "PyTorch", name, min(steps, key=trial), Alone()
                )
    report.write(Alone())


if __name__ == "__main__":
    main()
