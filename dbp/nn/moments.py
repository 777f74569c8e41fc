"""Running mean and variance per channel: of each shard first, combined exactly over all shards of a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dbp.types import Array


@dataclass(frozen=True)
class Moments:
    """Mean and variance per channel of `count` numbers a channel."""

    mean: Array
    variance: Array
    count: int


@dataclass
class RunningMoments:
    """Averages over the steps so far, in which each step counts 1 - decay and all before it decay."""

    mean: Array
    variance: Array
    decay: float

    @classmethod
    def at_start(cls, channels: int, decay: float, dtype: Any) -> RunningMoments:
        """Mean 0 and variance 1."""
        return cls(np.zeros(channels, dtype), np.ones(channels, dtype), decay)

    @property
    def width(self) -> int:
        """How many numbers sums() gives."""
        return 1 + 2 * len(self.mean)

    def sums(self, moments: Moments | None) -> Array:
        """What is added up over shards: count, and sums of distances and their squares from the running mean.

        The running mean, which is the same for all shards, keeps the difference of large numbers small.
        """
        if moments is None:
            return np.zeros(self.width)
        distance = moments.mean.astype(np.float64) - self.mean
        squares = moments.variance.astype(np.float64) + distance * distance
        return np.concatenate([[moments.count], moments.count * distance, moments.count * squares])

    def update(self, sums: Array) -> None:
        """Take in one step, from the sums over all its shards; the variance is the unbiased one."""
        count, distance, squares = sums[0], *np.split(sums[1:], 2)
        if count < 2:
            return
        distance, squares = distance / count, squares / count
        variance = (squares - distance * distance) * (count / (count - 1))
        self.mean += ((1 - self.decay) * distance).astype(self.mean.dtype)
        self.variance += ((1 - self.decay) * (variance - self.variance)).astype(self.variance.dtype)


def all_sums(running: Mapping[str, RunningMoments], observed: Mapping[str, Moments]) -> list[Array]:
    """The sums of all places, in their order."""
    return [moments.sums(observed.get(path)) for path, moments in running.items()]


def update_all(running: Mapping[str, RunningMoments], sums: Array) -> None:
    """Take in one step at all places, from what all_sums() gave, added up over the shards."""
    start = 0
    for moments in running.values():
        moments.update(sums[start : start + moments.width])
        start += moments.width


def named_arrays(running: Mapping[str, RunningMoments]) -> dict[str, Array]:
    """The arrays by name, as a checkpoint keeps them."""
    names = ("running_mean", "running_variance")
    return {f"{path}{n}": a for path, m in running.items() for n, a in zip(names, (m.mean, m.variance), strict=True)}
