"""Running mean and variance per channel, updated in each step from the exact moments over all its shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dbp.types import Array


@dataclass(frozen=True)
class Moments:
    """Mean and variance of a shard.

    Args:
        mean: shape (channels,).
        variance: shape (channels,).
        count: how many numbers per channel they are of.
        normalizes: whether the shard is normalized by them, for which they should be of many numbers.
    """

    mean: Array
    variance: Array
    count: int
    normalizes: bool = False


@dataclass
class RunningMoments:
    """Exponential moving averages of mean and variance over steps, each of shape (channels,).

    A step has weight 1 - decay, everything before it weight decay.
    """

    mean: Array
    variance: Array
    decay: float

    @classmethod
    def at_start(cls, channels: int, decay: float, dtype: Any) -> RunningMoments:
        """Return running moments with mean 0 and variance 1."""
        return cls(np.zeros(channels, dtype), np.ones(channels, dtype), decay)

    @property
    def width(self) -> int:
        """Return the length of what sums() returns."""
        return 1 + 2 * len(self.mean)

    def sums(self, moments: Moments | None) -> Array:
        """Return (count, sum of distances, sum of their squares) of a shard, to be added over shards; zeros for None.

        Distances are from the running mean, equal on all shards, which avoids cancellation for a large mean.
        """
        if moments is None:
            return np.zeros(self.width)
        distance = moments.mean.astype(np.float64) - self.mean
        squares = moments.variance.astype(np.float64) + distance * distance
        return np.concatenate([[moments.count], moments.count * distance, moments.count * squares])

    def update(self, sums: Array) -> None:
        """Update the averages from the sums over all shards of a step, with the unbiased variance."""
        count, distance, squares = sums[0], *np.split(sums[1:], 2)
        if count < 2:
            return
        distance, squares = distance / count, squares / count
        variance = (squares - distance * distance) * (count / (count - 1))
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
