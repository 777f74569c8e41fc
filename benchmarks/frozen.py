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
from dbp_layers import layers_of

from dbp import nn, optim
from dbp.config.settings import Settings
from dbp.parallel import world
from dbp.run.run import Run
from dbp.saving.start import Start
from dbp.training import loop
from dbp.training.fit import start_run

EXAMPLES, CLASSES = 64, 10


OTHERS = {"cnn": ["dense_1/*"], "resnet": ["batch_norm_*", "residual_*"]}  # frozen besides the convolutions


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
    for name, others in OTHERS.items():
        layers, shape, frozen = layers_of(CASES[name].network), CASES[name].shape, ["conv2d_*", *others]
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
