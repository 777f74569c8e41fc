"""Mean and deviation of columns of the training data, by one pass of all ranks: the same bits on any number of them.

Blocks of rows, whose borders depend on the data alone, are gathered into segments. A segment is computed by one rank,
block after block, and segments are merged in their order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np

from dbp.data import Dataset, block_count, scalings_of, without_placeholders
from dbp.data.check import block_rows
from dbp.data.dataset import example_form, role_of, weights_for
from dbp.data.scaling import Numbers, Scaling
from dbp.errors import PassStoppedError, UserError
from dbp.parallel import Communicator, agree, from_rank_0, parts
from dbp.reading.subset import Subset, whole_of
from dbp.types import Array

MAX_SEGMENTS, SEGMENT_NUMBERS = 256, 1 << 20  # of a pass, and of all its segments together
NARROW = 64  # elements of a row, below which rows are transposed
PROGRESS_SECONDS = 10.0  # from one line on a long pass to the next


class Moments(NamedTuple):
    """What is known of some rows of a column, for each element along its last axis.

    Args:
        weight: sum of the weights.
        mean: weighted mean.
        squares: weighted sum of squared differences from the mean.
        least: of the numbers that count.
        most: likewise.
    """

    weight: Array
    mean: Array
    squares: Array
    least: Array
    most: Array

    @classmethod
    def of(cls, values: Array, weights: Array | None = None) -> Moments:
        """Return the moments of some rows.

        Args:
            values: (rows, elements), which are overwritten.
            weights: of the same shape; None if all are 1.
        """
        axis = 0
        if values.shape[1] < NARROW:  # sums over neighbors in memory take a fraction of the time
            values, axis = np.ascontiguousarray(values.T), 1
            weights = None if weights is None else np.ascontiguousarray(weights.T)
        least, most, total = _extremes(values, weights, axis)
        divisor = np.where(total > 0, total, 1)
        guess = _sum(values, weights, axis) / divisor
        values -= np.expand_dims(guess, axis)
        error = _sum(values, weights, axis) / divisor  # of the guess, by rounding
        squares = _sum(np.square(values, out=values), weights, axis) - np.square(error) * total
        return cls(total, guess + error, np.maximum(squares, 0), least, most)

    def merged(self, other: Moments) -> Moments:
        """Return the moments of both sets of rows (Chan, Golub and LeVeque 1979, equation 2.1)."""
        total = self.weight + other.weight
        share = other.weight / np.where(total > 0, total, 1)
        distance = other.mean - self.mean
        return Moments(
            total,
            self.mean + distance * share,
            self.squares + other.squares + np.square(distance) * self.weight * share,
            np.minimum(self.least, other.least),
            np.maximum(self.most, other.most),
        )

    @property
    def is_constant(self) -> Array:
        """Return for each element whether all its numbers are the same."""
        return np.asarray(self.least >= self.most)

    @property
    def deviation(self) -> Array:
        """Return the standard deviation of all numbers that count; 1 where they are all the same."""
        variance = self.squares / np.where(self.weight > 0, self.weight, 1)
        return np.where(self.is_constant | (variance == 0), 1.0, np.sqrt(variance))


def _sum(values: Array, weights: Array | None, axis: int) -> Array:
    return np.asarray((values if weights is None else values * weights).sum(axis=axis))


def _extremes(values: Array, weights: Array | None, axis: int) -> tuple[Array, Array, Array]:
    """Return the least and the largest number that count, and the sum of the weights."""
    if weights is None:
        bounds = values.min(axis=axis, initial=np.inf), values.max(axis=axis, initial=-np.inf)
        return *bounds, np.full(values.shape[1 - axis], float(values.shape[axis]))
    counts = weights > 0
    least = np.where(counts, values, np.inf).min(axis=axis, initial=np.inf)
    return least, np.where(counts, values, -np.inf).max(axis=axis, initial=-np.inf), weights.sum(axis=axis)


def as_numbers(values: Array) -> Numbers:
    """Return one number, or one for each element."""
    return float(values[0]) if len(values) == 1 else tuple(values.tolist())


def moments_of(
    comm: Communicator, train: Dataset, columns: Sequence[str], stops: Callable[[], bool], say: Callable[[str], None]
) -> dict[str, Moments]:
    """Return the moments of columns over the training data, with scale and shift, in float64; collective.

    Rows, and elements of targets, count with their weights.

    Args:
        comm: the ranks.
        train: the training data.
        columns: their names.
        stops: returns True if this rank is asked to stop.
        say: gets a line on the progress of a long pass, on rank 0.

    Raises:
        UserError: numbers are not finite, or their squares.
        PassStoppedError: a rank has been asked to stop.
    """
    whole = whole_of(train)
    first = example_form(whole)
    widths = [_width(name, first) for name in columns]
    blocks = block_count(whole)
    segments = max(1, min(blocks, MAX_SEGMENTS, SEGMENT_NUMBERS // sum(widths)))
    mine = parts(segments, comm.size, comm.rank)
    spans = [parts(blocks, segments, number) for number in mine]
    one_pass = _Pass(whole, _is_member(train), columns, stops, say if comm.rank == 0 else None)
    found = comm.gather(agree(comm, one_pass.segments, spans))
    if any(of_rank is None for of_rank in found):
        raise PassStoppedError

    def merged() -> dict[str, Moments]:
        in_order = [segment for of_rank in found for segment in of_rank]
        return {column: reduce(Moments.merged, [segment[column] for segment in in_order]) for column in columns}

    return from_rank_0(comm, merged)


def _is_member(train: Dataset) -> Array | None:
    """Return a mask of the rows of the whole data set that are training data; None if all are."""
    if not isinstance(train, Subset):
        return None
    member = np.zeros(len(train.whole), bool)
    for start in range(0, len(train), 1 << 16):
        member[train.rows_of_whole(np.arange(start, min(start + (1 << 16), len(train))))] = True
    return member


class _Pass:
    """A pass of one rank over some segments of the data."""

    def __init__(
        self,
        whole: Dataset,
        member: Array | None,
        columns: Sequence[str],
        stops: Callable[[], bool],
        say: Callable[[str], None] | None,
    ):
        self._whole, self._member, self._columns, self._stops, self._say = whole, member, columns, stops, say
        self._scalings, self._rows = scalings_of(whole), block_rows(whole)
        self._said = time.monotonic()

    def segments(self, spans: Sequence[range]) -> list[dict[str, Moments]] | None:
        """Return the moments of each segment, given the numbers of its blocks; None if the pass is to stop."""
        found, total, done = [], sum(map(len, spans)), 0
        for span in spans:
            blocks = []
            for block in span:
                if self._stops():
                    return None
                blocks.append(self._block(block))
                done += 1
                self._tell(done / total)
            found.append({column: reduce(Moments.merged, [one[column] for one in blocks]) for column in self._columns})
        return found

    def _tell(self, share: float) -> None:
        now = time.monotonic()
        if self._say is not None and now - self._said > PROGRESS_SECONDS:
            self._said = now
            self._say(f"mean and deviation of the training data: {share:.0%}")

    def _block(self, block: int) -> dict[str, Moments]:
        rows = slice(block * self._rows, (block + 1) * self._rows)
        read: Mapping[str, Array] = without_placeholders(self._whole.read(rows))
        numbers = np.arange(rows.start, rows.start + len(next(iter(read.values()))))
        if self._member is not None:
            kept = np.flatnonzero(self._member[rows])
            read, numbers = {name: values[kept] for name, values in read.items()}, numbers[kept]
        return {column: self._moments(column, read, numbers) for column in self._columns}

    def _moments(self, column: str, read: Mapping[str, Array], rows: Array) -> Moments:
        values = self._scalings.get(column, Scaling()).apply(read[column], np.dtype(np.float64))
        width, weights = _width(column, read), _weights(column, read)
        moments = Moments.of(values.reshape(-1, width), None if weights is None else weights.reshape(-1, width))
        if not np.isfinite(moments.squares).all():
            wrong = np.flatnonzero(~np.isfinite(read[column]).reshape(len(values), -1).all(axis=1))
            which = (
                f"example {rows[wrong[0]]} has {column} that are" if len(wrong) else f"{column} have squares that are"
            )
            raise UserError(
                f"{self._whole.name}: {which} not finite, so they have no mean and deviation; correct them, or give "
                "such examples the weight 0"
            )
        return moments


def _width(column: str, read: Mapping[str, Array]) -> int:
    """Return the number of elements along the last axis; 1 if that is one of examples, masked positions or pixels.

    Two axes of bytes are those of an image without an axis of channels.
    """
    shape, mask = read[column].shape, read.get("mask" + column.removeprefix(role_of(column)))
    if read[column].dtype == np.uint8 and len(shape) == 3 and mask is None:
        return 1
    has_positions = mask is not None and shape[: mask.ndim] == mask.shape
    if has_positions and role_of(column) == "targets":  # they are of positions only if these have weights
        weights = weights_for(column, read)
        has_positions = weights is not None and mask is not None and read[weights].shape == mask.shape
    return shape[-1] if len(shape) > (mask.ndim if has_positions and mask is not None else 1) else 1


def _weights(column: str, read: Mapping[str, Array]) -> Array | None:
    """Return the weight of each number of a column: that of its example, or its own; None if all are 1.

    Those of inputs in masked positions are 0.
    """
    shape, weights = read[column].shape, _example_weights(column, read)
    mask = read.get("mask" + column.removeprefix("inputs")) if role_of(column) == "inputs" else None
    if mask is None:
        return weights
    valid = mask.reshape(mask.shape + (1,) * (len(shape) - mask.ndim))
    return np.where(valid, np.ones(shape) if weights is None else weights, 0.0)


def _example_weights(column: str, read: Mapping[str, Array]) -> Array | None:
    """Return what _weights() does, by the weights of examples and targets alone."""
    shape = read[column].shape
    name = weights_for(column if role_of(column) == "targets" else "targets", read)
    if name is None:
        return None
    weights = read[name].astype(np.float64)
    if weights.shape != shape[: weights.ndim]:  # of positions that this column does not have
        weights = weights.reshape(len(weights), -1).mean(axis=1)
    return np.broadcast_to(weights.reshape(*weights.shape, *(1,) * (len(shape) - weights.ndim)), shape)
