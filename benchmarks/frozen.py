"""Time a step of all parameters beside one of the last dense layer alone, the others frozen.

    python benchmarks/frozen.py [--steps N] [--rounds N]

The steps alternate in one process, so that other work on the machine slows both.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent / "steps"))
from cases import CASES
from dbp_steps import layer_of

from dbp import nn, optim
from dbp.config.settings import Settings
from dbp.parallel import world
from dbp.run.run import Run
from dbp.saving.start import Start
from dbp.training import loop
from dbp.training.fit import start_run

EXAMPLES, CLASSES = 64, 10


def normalized(filters: int, size: int = 3, stride: int = 1) -> list[nn.Layer]:
    """Return a convolution without bias, and batch normalization."""
    return [nn.Conv2d(filters, size, stride=stride, padding=size // 2, bias=False), nn.BatchNorm()]


def block(filters: int, stride: int) -> list[nn.Layer]:
    """Return two convolutions beside a shortcut, as in He et al. 2015."""
    shortcut = normalized(filters, 1, stride) if stride > 1 else []
    inner = [*normalized(filters, stride=stride), nn.Activation("relu"), *normalized(filters)]
    return [nn.Residual(inner, shortcut=shortcut), nn.Activation("relu")]


RESNET = [
    *normalized(32),
    nn.Activation("relu"),
    *block(32, 1),
    *block(64, 2),
    *block(128, 2),
    nn.GlobalAveragePool(),
    nn.Dense(CLASSES),
]
CNN = [layer_of(layer) for layer in CASES["cnn"].network]
MODELS = {"cnn": (CNN, (28, 28, 1), "dense_1/*"), "resnet": (RESNET, (32, 32, 3), "")}


def settings_of(layers: Sequence[nn.Layer], shape: tuple[int, ...], frozen: Sequence[str]) -> Settings:
    """Return the settings of a run whose data is one mini-batch."""
    rng = np.random.default_rng(0)
    inputs, targets = rng.standard_normal((EXAMPLES, *shape), np.float32), rng.integers(CLASSES, size=EXAMPLES)
    return Settings.of(
        model=list(layers),
        loss="cross_entropy",
        data=(inputs, targets),
        optimizer=optim.Adam(1e-3),
        epochs=1,
        batch_size=EXAMPLES,
        frozen=frozen,
    )


def seconds_of_a_step(run: Run, steps: int) -> float:
    """Return the median time of a step."""
    batch, times = run.next_batch(), []
    for _ in range(steps):
        began = time.perf_counter()
        loop.record_step(run, loop.step(run, batch, total_steps=1_000_000))
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    """Print the time of a step of each kind, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5, help="in a round")
    parser.add_argument("--rounds", type=int, default=7)
    given, comm = parser.parse_args(), world()
    for name, (layers, shape, others) in MODELS.items():
        frozen = ["conv2d_*", *([others] if others else ["batch_norm_*", "residual_*"])]
        with (
            start_run(settings_of(layers, shape, ()), comm, Start(fresh=True, quiet=True)) as (whole, _, _),
            start_run(settings_of(layers, shape, frozen), comm, Start(fresh=True, quiet=True)) as (last, _, _),
        ):
            seconds_of_a_step(whole, 2), seconds_of_a_step(last, 2)
            pairs = [[seconds_of_a_step(run, given.steps) for run in (whole, last)] for _ in range(given.rounds)]
            both, one = (statistics.median(column) for column in zip(*pairs, strict=True))
            ratio = statistics.median(a / b for a, b in pairs)
            print(f"{name}: all {1e3 * both:.1f} ms, the last layer {1e3 * one:.1f} ms, {ratio:.2f} times faster")


if __name__ == "__main__":
    main()
