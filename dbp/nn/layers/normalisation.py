"""Layers that bring their inputs to mean 0 and variance 1, and scale and shift them again; and dropout."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.autodiff import Value, array_of, mean, reshape, sqrt, square
from dbp.errors import UserError
from dbp.nn.layers.layer import at_least
from dbp.nn.moments import Moments
from dbp.nn.scope import Scope


def _check_epsilon(epsilon: float) -> None:
    if not epsilon > 0:
        raise UserError(f"epsilon must be positive, but is {epsilon}")


def _check_part(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise UserError(f"{name} must be at least 0 and below 1, but is {value}")


def _scaled(scope: Scope, x: Value) -> Value:
    """X scaled and shifted channel by channel."""
    channels = (np.shape(x)[-1],)
    return x * scope.parameter("scale", channels, "ones") + scope.parameter("shift", channels, "zeros")


@dataclass(frozen=True)
class BatchNorm:
    """Every channel (last axis) by its mean and variance over the shard (Ioffe and Szegedy 2015).

    In training each shard takes its own moments, so that its results do not depend on others; the running ones,
    which evaluation takes, are combined exactly over all shards of each step.

    Args:
        decay: the part of the running moments that stays in each step.
        epsilon: added to variances.
    """

    kind: ClassVar[str] = "batch_norm"
    decay: float = 0.9
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        _check_part("decay", self.decay)
        _check_epsilon(self.epsilon)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Outputs of the inputs' shape."""
        running = scope.running_moments(np.shape(x)[-1], self.decay)
        if not scope.training:
            return _scaled(scope, (x - running.mean) / np.sqrt(running.variance + self.epsilon))
        axes = tuple(range(np.ndim(x) - 1))
        centre = mean(x, axis=axes)
        distance = x - centre
        variance = mean(square(distance), axis=axes)
        scope.observe(Moments(array_of(centre), array_of(variance), math.prod(np.shape(x)[:-1])))
        return _scaled(scope, distance / sqrt(variance + self.epsilon))


def _normalised(x: Value, axes: tuple[int, ...], epsilon: float) -> Value:
    shape = tuple(1 if i in axes else n for i, n in enumerate(np.shape(x)))
    distance = x - reshape(mean(x, axis=axes), shape=shape)
    return distance / reshape(sqrt(mean(square(distance), axis=axes) + epsilon), shape=shape)


@dataclass(frozen=True)
class LayerNorm:
    """The last axis of each example (and place) by its own mean and variance (Ba, Kiros and Hinton 2016)."""

    kind: ClassVar[str] = "layer_norm"
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        _check_epsilon(self.epsilon)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Outputs of the inputs' shape."""
        return _scaled(scope, _normalised(x, (np.ndim(x) - 1,), self.epsilon))


@dataclass(frozen=True)
class GroupNorm:
    """Groups of channels of each example by their mean and variance over all places (Wu and He 2018)."""

    kind: ClassVar[str] = "group_norm"
    groups: int
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        at_least("groups", self.groups, 1)
        _check_epsilon(self.epsilon)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Outputs of the inputs' shape."""
        n, *places, channels = np.shape(x)
        if channels % self.groups:
            raise UserError(f"channels must be a multiple of groups ({self.groups}), but there are {channels}")
        parts = reshape(x, shape=(n, math.prod(places), self.groups, channels // self.groups))
        return _scaled(scope, reshape(_normalised(parts, (1, 3), self.epsilon), shape=(n, *places, channels)))


@dataclass(frozen=True)
class Dropout:
    """Sets a part of its inputs to zero in training, and scales the others up (Srivastava et al. 2014).

    Which ones depends on seed, step and shard alone, so it is the same on any number of ranks.

    Args:
        rate: the part that is dropped.
    """

    kind: ClassVar[str] = "dropout"
    rate: float

    def __post_init__(self) -> None:
        _check_part("rate", self.rate)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Outputs of the inputs' shape; the inputs themselves outside of training."""
        if not scope.training or self.rate == 0:
            return x
        kept = scope.generator().random(np.shape(x), np.float32) >= self.rate
        return x * (kept * array_of(x).dtype.type(1 / (1 - self.rate)))
