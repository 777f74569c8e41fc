"""Layers that bring their inputs to mean 0 and variance 1, and scale and shift them again; and dropout."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.autodiff import Value, array_of, moments_of, normalize_block, reshape
from dbp.errors import UserError
from dbp.nn.layers.layer import counts
from dbp.nn.moments import Moments
from dbp.nn.scope import Scope


def _check_epsilon(epsilon: float) -> None:
    if not epsilon > 0:
        raise UserError(f"epsilon must be positive, but is {epsilon}")


def _check_part(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise UserError(f"{name} must be at least 0 and below 1, but is {value}")


def _scale_and_shift(scope: Scope, channels: int) -> tuple[Value, Value]:
    """What normalized numbers are multiplied by, and what is added then, channel by channel."""
    return scope.parameter("scale", (channels,), "ones"), scope.parameter("shift", (channels,), "zeros")


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
        scale, shift = _scale_and_shift(scope, np.shape(x)[-1])
        if not scope.training:
            return (x - running.mean) / np.sqrt(running.variance + self.epsilon) * scale + shift
        axes = tuple(range(np.ndim(x) - 1))
        center, variance = moments = moments_of(array_of(x), axes)
        scope.observe(Moments(center.reshape(-1), variance.reshape(-1), math.prod(np.shape(x)[:-1])))
        return normalize_block(x, scale, shift, axes=axes, epsilon=self.epsilon, moments=moments)


@dataclass(frozen=True)
class LayerNorm:
    """The last axis of each example (and place) by its own mean and variance (Ba, Kiros and Hinton 2016)."""

    kind: ClassVar[str] = "layer_norm"
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        _check_epsilon(self.epsilon)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Outputs of the inputs' shape."""
        scale, shift = _scale_and_shift(scope, np.shape(x)[-1])
        return normalize_block(x, scale, shift, axes=(np.ndim(x) - 1,), epsilon=self.epsilon)


@dataclass(frozen=True)
class GroupNorm:
    """Groups of channels of each example by their mean and variance over all places (Wu and He 2018)."""

    kind: ClassVar[str] = "group_norm"
    groups: int
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        counts(self, "groups")
        _check_epsilon(self.epsilon)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Outputs of the inputs' shape."""
        n, *places, channels = np.shape(x)
        if channels % self.groups:
            raise UserError(
                f"channels must be a multiple of groups ({self.groups}), but its inputs have shape {np.shape(x)[1:]}"
            )
        grouped = self.groups, channels // self.groups
        parts = reshape(x, shape=(n, math.prod(places), *grouped))
        scale, shift = (reshape(p, shape=grouped) for p in _scale_and_shift(scope, channels))
        y = normalize_block(parts, scale, shift, axes=(1, 3), epsilon=self.epsilon)
        return reshape(y, shape=np.shape(x))


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
