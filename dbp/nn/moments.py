"""Running mean and variance per channel, updated in each step from the exact moments over all its shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dbp.types import Array

ENOUGH = 1.5  # numbers for a variance: two of equal weights, whatever the rounding of their sums


@dataclass(frozen=True)
class Moments:
    """Mean and variance of a shard.

    Args:
        mean: shape (channels,).
        variance: shape (channels,).
        count: how many numbers per channel they are of, or the sum of their weights.
        squared_weights: the sum of the squared weights; None if all weights are 1.
        normalizes: "shard" if the shard is normalized by them, "batch" if the whole mini-batch is by those of all
            shards, for which they should be of many numbers; else "".
    """

    mean: Array
    variance: Array
    count: float
    squared_weights: float | None = None
    normalizes: str = ""


@dataclass
class RunningMoments:
    """Exponential moving averages of mean and variance over steps, each of shape (channels,).

    A step has weight 1 - decay, everything before it weight decay.

    Args:
        mean: shape (channels,).
        variance: shape (channels,).
        decay: from 0 to 1.
        frozen: whether they stay as they are, and normalize in training too, as their layer does not learn.
        over_shards: whether the layer normalizes by the moments of all shards, for which it sums over them.
    """

    mean: Array
    variance: Array
    decay: float
    frozen: bool = False
    over_shards: bool = False

    @classmethod
    def at_start(cls, channels: int, decay: float, dtype: Any) -> RunningMoments:
        """Return running moments with mean 0 and variance 1."""
        return cls(np.zeros(channels, dtype), np.ones(channels, dtype), decay)

    def copy(self) -> RunningMoments:
        """Return a copy, with arrays of its own."""
        return replace(self, mean=self.mean.copy(), variance=self.variance.copy())

    def average_in(self, other: RunningMoments, share: float) -> None:
        """Move towards other moments by this share of the difference, 1 for all of it."""
        for own, new in ((self.mean, other.mean), (self.variance, other.variance)):
            own[:] = new if share == 1 else own + share * (new - own)

    @property
    def width(self) -> int:
        """Return the length of what sums() returns."""
        return 2 + 2 * len(self.mean)

    def sums(self, moments: Moments | None) -> Array:
        """Return what a shard adds to the sums over all shards; zeros for None.

        They are the sums of weights, of their squares, of distances and of their squares. Distances are from the
        running mean, equal on all shards, which avoids cancellation for a large mean.
        """
        if moments is None:
            return np.zeros(self.width)
        distance = moments.mean.astype(np.float64) - self.mean
        squares = moments.variance.astype(np.float64) + distance * distance
        counts = [moments.count, moments.count if moments.squared_weights is None else moments.squared_weights]
        return np.concatenate([counts, moments.count * distance, moments.count * squares])

    def update(self, sums: Array) -> None:
        """Update the averages from the sums over all shards of a step, with the unbiased variance.

        Numbers of unequal weights are as good as count^2 / squared weights of equal ones (Kish 1965).
        """
        (count, squared_weights), (distance, squares) = sums[:2], np.split(sums[2:], 2)
        equal = count * count / squared_weights if squared_weights else 0.0
        if equal < ENOUGH or self.frozen:
            return
        distance, squares = distance / count, squares / count
        variance = (squares - distance * distance) * (equal / (equal - 1))
        self.mean += ((1 - self.decay) * distance).astype(self.mean.dtype)
        self.variance += ((1 - self.decay) * (variance - self.variance)).astype(self.variance.dtype)


def moment_sums(running: Mapping[str, RunningMoments], observed: Mapping[str, Moments]) -> list[Array]:
    """Return the sums of all running moments for one shard, in the order of `running`."""
    return [moments.sums(observed.get(path)) for path, moments in running.items()]


def update_running_moments(running: Mapping[str, RunningMoments], sums: Array) -> None:
    """Update all running moments after a step, from the results of moment_sums() added over all shards."""
    start = 0
    for moments in running.values():
        moments.update(sums[start : start + moments.width])
        start += moments.width


def running_arrays(running: Mapping[str, RunningMoments]) -> dict[str, Array]:
    """Return the arrays of running moments by name, as a checkpoint holds them."""
    names = ("running_mean", "running_variance")
    return {f"{path}{n}": a for path, m in running.items() for n, a in zip(names, (m.mean, m.variance), strict=True)}
