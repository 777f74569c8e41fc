"""Normalization of inputs to mean 0 and variance 1, then scaled and shifted."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from dbp.autodiff import (
    OtherParts,
    Value,
    array_of,
    batch_normalize_block,
    channel_moments,
    layer_normalize_block,
    normalize_block,
    reshape,
    rms_normalize_block,
)
from dbp.checks import check_fraction, check_positive
from dbp.errors import UserError, unknown
from dbp.nn.layers.dense import is_relu
from dbp.nn.layers.layer import Layer, check_counts
from dbp.nn.masks import has_positions, on_axes_of
from dbp.nn.moments import Moments, RunningMoments
from dbp.nn.scope import Scope
from dbp.types import Array

STATISTICS = ("shard", "batch")
FAR = 100.0  # variances that a squared mean may be, before the variance is found from distances from the mean


def _scale_and_shift(scope: Scope, channels: int) -> tuple[Value, Value]:
    """Return the learned scale and shift, each of shape (channels,)."""
    return scope.parameter("scale", (channels,), "ones"), scope.parameter("shift", (channels,), "zeros")


@dataclass(frozen=True)
class BatchNorm:
    """Batch normalization: each channel (last axis) by its moments over a shard, or all (Ioffe and Szegedy 2015).

    Inputs and outputs (examples, ..., channels).
    In training a shard is normalized by its own mean and variance, so that its results do not depend on other shards;
    or all shards are by those of the whole mini-batch, and then wait for each other in the layer, forward and backward.
    Examples, and positions if these have weights, count with their weights.
    Evaluation uses running moments, which are updated in each step from the exact moments over all shards. So does
    training where they are frozen.

    Args:
        decay: the fraction of the running moments that a step keeps.
        epsilon: added to variances.
        statistics: "shard" for the moments of each shard, "batch" for those of the whole mini-batch, the same for any
            number of shards.
    """

    kind: ClassVar[str] = "batch_norm"
    keeps_positions: ClassVar[bool] = True
    decay: float = 0.9
    epsilon: float = 1e-5
    statistics: str = "shard"

    def __post_init__(self) -> None:
        check_fraction(decay=self.decay)
        if self.statistics not in STATISTICS:
            raise unknown("statistics", self.statistics, STATISTICS)
        check_positive(epsilon=self.epsilon)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return outputs of the inputs' shape."""
        return self._normalized(scope, x, relu_after=False)

    def followed_by(self, after: Layer) -> Callable[[Scope, Value], Value] | None:
        """Return the layer together with ReLU after it, in one pass; None for another layer."""
        return functools.partial(self._normalized, relu_after=True) if is_relu(after) else None

    def _normalized(self, scope: Scope, x: Value, relu_after: bool) -> Value:
        """Return the normalized inputs, after ReLU if asked for."""
        running = scope.running_moments(np.shape(x)[-1], self.decay, self.statistics == "batch")
        scale, shift = _scale_and_shift(scope, np.shape(x)[-1])
        if scope.training and not running.frozen:
            options = self._moments_in_training(scope, x, running)
        else:
            dtype = np.result_type(array_of(x), array_of(scale))
            moments = (array.astype(dtype, copy=False) for array in (running.mean, running.variance))
            options = {"moments": tuple(moments), "fixed": True}
        return batch_normalize_block(x, scale, shift, epsilon=self.epsilon, relu_after=relu_after, **options)

    def folded(self, scope: Scope, w: Array, b: Array | None) -> tuple[Array, Array]:
        """Return weights (..., channels) and bias of a layer whose outputs are normalized, for evaluation.

        With them the layer returns (x w + b - mean) factor + shift, where factor is the scale over the deviation.
        Rounding errors are as large as those of the sums x w, which lose the digits of a far mean in any case.
        """
        running = scope.running_moments(w.shape[-1], self.decay, self.statistics == "batch")
        scale, shift = (array_of(p).astype(np.float64) for p in _scale_and_shift(scope, w.shape[-1]))
        factor = scale / np.sqrt(running.variance.astype(np.float64) + self.epsilon)
        offset = ((0 if b is None else b) - running.mean.astype(np.float64)) * factor + shift
        return w * factor.astype(w.dtype), offset.astype(w.dtype)

    def _moments_in_training(self, scope: Scope, x: Value, running: RunningMoments) -> dict[str, Any]:
        """Return the options of the block for a training pass, and report the moments of the shard."""
        weights = scope.weights_of(x)
        is_empty = weights is not None and not weights.any()  # a shard of which nothing counts
        counted = None if is_empty else weights
        found = scope.unrecorded(channel_moments, x) if counted is None else channel_moments(array_of(x), counted)
        mine = None if is_empty else _moments(found[0], found[1], counted, math.prod(np.shape(x)[:-1]))
        if mine is not None:
            scope.observe(replace(mine, normalizes=self.statistics))
        if running.over_shards:
            weight, *of_batch = moments_over_shards(scope, mine, running.mean)
            if weight:  # else nothing of the whole mini-batch counts
                mean, variance = (array.astype(found[0].dtype) for array in of_batch)
                others = OtherParts(scope.sum_over_shards, weight)
                return {"moments": (mean, variance), "weights": weights, "others": others}
        return {"moments": tuple(found), "weights": counted}


def _moments(center: Array, variance: Array, weights: Array | None, count: int) -> Moments:
    """Return the moments of a shard."""
    if weights is None:
        return Moments(center, variance, count)
    exact = weights.astype(np.float64)
    total, squared = float(exact.sum()), float(np.square(exact).sum())
    return Moments(center, variance, total, squared)


def moments_over_shards(scope: Scope, mine: Moments | None, near: Array) -> tuple[float, Array, Array]:
    """Return the sum of the weights of all shards, and mean and variance of all, float64, shape (channels,).

    Args:
        scope: of the layer.
        mine: the moments of this shard; None if nothing in it counts.
        near: numbers from which distances are taken, the same for all shards; the nearer to the means, the better.
    """
    moments, near = mine or Moments(near, np.zeros_like(near), 0), near.astype(np.float64)
    distance, variance = moments.mean.astype(np.float64) - near, moments.variance.astype(np.float64)
    squares = variance + distance * distance
    sums = scope.sum_over_shards(moments.count * np.concatenate([[1], distance, squares]))
    weight = float(sums[0])
    if not weight:
        return 0.0, near, variance
    of_all, squares = np.split(sums[1:] / weight, 2)
    spread = squares - of_all * of_all
    if (of_all * of_all > FAR * spread).any():  # digits are lost in the difference; all shards see the same sums
        spread = scope.sum_over_shards(moments.count * (variance + (distance - of_all) ** 2)) / weight
    return weight, near + of_all, spread


@dataclass(frozen=True)
class LayerNorm:
    """Layer normalization: the last axis by its own mean and variance (Ba, Kiros and Hinton 2016).

    Inputs and outputs (examples, ..., channels).

    Args:
        epsilon: added to variances.
    """

    kind: ClassVar[str] = "layer_norm"
    keeps_positions: ClassVar[bool] = True
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        check_positive(epsilon=self.epsilon)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return outputs of the inputs' shape."""
        scope.mask_of(x)  # raises if the last axis is one of positions, which the layer would mix
        scale, shift = _scale_and_shift(scope, np.shape(x)[-1])
        return layer_normalize_block(x, scale, shift, epsilon=self.epsilon)


@dataclass(frozen=True)
class RMSNorm:
    """Root mean square normalization: x / sqrt(mean(x^2) + epsilon) * scale (Zhang and Sennrich 2019).

    Inputs and outputs (examples, ..., channels); the mean is over the channels, scale is (channels,).

    Args:
        epsilon: added to mean squares.
    """

    kind: ClassVar[str] = "rms_norm"
    keeps_positions: ClassVar[bool] = True
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        check_positive(epsilon=self.epsilon)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return outputs of the inputs' shape."""
        scope.mask_of(x)  # raises if the last axis is one of positions, which the layer would mix
        return rms_normalize_block(x, scope.parameter("scale", np.shape(x)[-1:], "ones"), epsilon=self.epsilon)


@dataclass(frozen=True)
class GroupNorm:
    """Group normalization: groups of channels of each example by their moments over all positions (Wu and He 2018).

    Inputs and outputs (examples, ..., channels). Masked positions do not count.

    Args:
        groups: number of groups, which divides that of channels.
        epsilon: added to variances.
    """

    kind: ClassVar[str] = "group_norm"
    keeps_positions: ClassVar[bool] = True
    groups: int
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        check_counts(self, "groups")
        check_positive(epsilon=self.epsilon)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return outputs of the inputs' shape."""
        n, *positions, channels = np.shape(x)
        if channels % self.groups:
            raise UserError(
                f"channels must be a multiple of groups ({self.groups}), but its inputs have shape {np.shape(x)[1:]}"
            )
        grouped = self.groups, channels // self.groups
        parts = reshape(x, shape=(n, math.prod(positions), *grouped))
        scale, shift = (reshape(p, shape=grouped) for p in _scale_and_shift(scope, channels))
        weights = _place_weights(scope, x, channels // self.groups)
        y = normalize_block(parts, scale, shift, axes=(1, 3), epsilon=self.epsilon, weights=weights)
        return reshape(y, shape=np.shape(x))


def _place_weights(scope: Scope, x: Value, channels: int) -> Array | None:
    """Return 1 for each position of x that holds data and 0 for each masked one, (examples, positions, 1, channels).

    They are the same for all channels of a group. An example of which all positions are masked is normalized by all.
    """
    mask = scope.mask_of(x)
    if mask is None:
        return None
    counts = on_axes_of(mask | ~on_axes_of(has_positions(mask), mask), x)
    weights = np.broadcast_to(counts, (*np.shape(x)[:-1], channels)).astype(array_of(x).dtype)
    return weights.reshape(len(weights), -1, 1, channels)
