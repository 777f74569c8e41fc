"""The peers of data.py: a training of PyTorch through its DataLoader over h5py, or reading by h5py alone."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

BATCH, EXAMPLES_SEED = 256, 0
WARM_UP = 2  # steps, of which the first waits for the workers


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--file", required=True)
    parser.add_argument("--workers", type=int, help="of PyTorch's DataLoader; without it h5py reads alone")
    parser.add_argument("--seconds", type=float, default=10.0, help="after which no more steps are taken")
    return parser.parse_args()


def read_by_h5py(path: str) -> Iterator[Any]:
    """Yield shuffled mini-batches as h5py reads them best: by sorted row numbers."""
    with h5py.File(path) as file:
        inputs, targets = file["inputs"], file["targets"]
        order = np.random.default_rng(EXAMPLES_SEED).permutation(len(inputs))
        for start in range(0, len(order), BATCH):
            rows = np.sort(order[start : start + BATCH])
            yield inputs[rows], targets[rows]


def steps_of_torch(path: str, workers: int) -> Iterator[Any]:
    """Take training steps of PyTorch, and yield after each."""
    import torch
    import torch.nn.functional as F  # noqa: N812  the name that everyone gives it
    from torch.utils.data import DataLoader, Dataset

    class Rows(Dataset[Any]):
        """Rows of a file, which each worker opens for itself."""

        file: h5py.File | None = None

        def __len__(self) -> int:
            with h5py.File(path) as file:
                return len(file["inputs"])

        def __getitem__(self, row: int) -> Any:
            if self.file is None:
                self.file = h5py.File(path)
            return self.file["inputs"][row], int(self.file["targets"][row])

    torch.manual_seed(EXAMPLES_SEED)
    model = torch.nn.Sequential(torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    for inputs, targets in DataLoader(Rows(), BATCH, shuffle=True, num_workers=workers):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        yield


def timed(steps: Iterator[Any], seconds: float) -> dict[str, Any]:
    """Return the median milliseconds between steps, of as many as a time allows, but at least one."""
    begun, times = time.perf_counter(), []
    last = begun
    for _ in steps:
        now = time.perf_counter()
        times.append(now - last)
        last = now
        if now - begun > seconds and len(times) > WARM_UP:
            break
    kept = times[WARM_UP:] or times
    return {"ms": statistics.mean(kept) * 1e3, "steps": len(kept)}


def main() -> None:
    """Measure what the arguments say."""
    args = arguments()
    if args.workers is None:
        steps, versions = read_by_h5py(args.file), {"h5py": h5py.__version__, "hdf5": h5py.version.hdf5_version}
    else:
        import torch

        steps, versions = steps_of_torch(args.file, args.workers), {"torch": torch.__version__}
    found = timed(steps, args.seconds)
    args.out.write_text(json.dumps({"versions": versions, "results": found}))


if __name__ == "__main__":
    main()
