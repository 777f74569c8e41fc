"""One pass over a data set before training, which checks all numbers and identifies the data by a digest."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dbp.data.dataset import (
    Dataset,
    Examples,
    example_form,
    pieces_of,
    role_of,
    scalings_of,
    stated_scales,
    weights_for,
)
from dbp.data.placeholders import without_placeholders
from dbp.data.scaling import Scaling
from dbp.errors import DataError, MisfitError, UserError
from dbp.named_arrays import all_finite, as_dict
from dbp.types import Array

BLOCK_BYTES, MAX_BLOCK_ROWS = 1 << 22, 4096  # of the rows that are checked at a time
SAMPLE_ROWS = 64

CheckExamples = Callable[[Examples, int], None]  # arguments: some rows, and the number of the first of them


def block_rows(data: Dataset) -> int:
    """Return how many rows are checked at a time: a number that depends on the data only, as digests do on it."""
    first = example_form(data)
    row_bytes = sum(column.nbytes for column in first.values())
    if first.mask is not None:  # the first example may be a short one
        whole = as_dict(data.input_shape)
        for name, shape in whole.items():
            inputs = first[f"inputs.{name}" if name else "inputs"]
            row_bytes += inputs.itemsize * (math.prod(shape) - inputs.size)
    return max(1, min(MAX_BLOCK_ROWS, BLOCK_BYTES // max(1, row_bytes)))


def block_count(data: Dataset) -> int:
    """Return the number of blocks of rows in which a data set is checked."""
    return -(-len(data) // block_rows(data))


class CheckedBlock(NamedTuple):
    """What is known of a block of rows once it is checked.

    Args:
        digest: of all its numbers.
        counts: True if any example counts for any target: its weight is not 0, or the target has no weights.
        nonzero: for each column of inputs and targets, whether any number is not 0, as it is stored and in the
            precision of the run.
    """

    digest: bytes
    counts: bool
    nonzero: dict[str, tuple[bool, bool]]


def check_blocks(
    data: Dataset,
    blocks: range,
    dtype: np.dtype[Any],
    check_examples: CheckExamples,
    stops: Callable[[], bool] = bool,
) -> list[CheckedBlock]:
    """Check some blocks of rows, but for the rules of check_all(); return those that were checked.

    Args:
        data: the data set.
        blocks: numbers of the blocks that this rank checks.
        dtype: the precision of the run.
        check_examples: raises UserError for examples that do not fit model or loss.
        stops: called before each block; returns True if no more are to be checked.

    Raises:
        DataError: an example breaks a rule; names the data set, the rule and the first such row.
    """
    checked, rows, scalings, stated = [], block_rows(data), scalings_of(data), _stated(data)
    for first in range(blocks.start * rows, blocks.stop * rows, rows):
        if stops():
            break
        stored = data.read(slice(first, first + rows))
        used = without_placeholders(stored)
        try:
            nonzero = check_rows(used, scalings, dtype, check_examples, first)
        except UserError as found:
            for file, start, part in pieces_of(data, range(first, min(first + rows, len(data)))):
                try:
                    piece = Examples({name: values[part] for name, values in used.items()})
                    check_rows(piece, scalings, dtype, check_examples, start)
                except UserError as error:
                    raise broken_rule(file, error) from None
            raise broken_rule(data.name, found) from None  # a rule that only rows of several files break
        weights = [weights_for(name, used) for name in used if role_of(name) == "targets"]
        counts = not weights or any(name is None or used[name].any() for name in weights)
        checked.append(CheckedBlock(_digest(stored, stated), counts, nonzero))
    return checked


def broken_rule(name: str, error: UserError) -> UserError:
    """Return the error for examples of a file: a MisfitError for their shape or type, else a DataError."""
    kind = MisfitError if isinstance(error, MisfitError) else DataError
    return kind(f"{name}: {error}")


def check_rows(
    examples: Examples, scalings: Mapping[str, Scaling], dtype: np.dtype[Any], check_examples: CheckExamples, first: int
) -> dict[str, tuple[bool, bool]]:
    """Return what CheckedBlock keeps of each column; raise UserError, naming the row, if an example breaks a rule."""
    for name, values in examples.items():
        if (check := FINITE_CHECKS.get(role_of(name))) is not None:
            check(name, values, first)
    check_examples(examples, first)
    nonzero = {
        name: _check_precision(name, values, scalings.get(name, Scaling()), dtype, first)
        for name, values in examples.items()
        if role_of(name) in ("inputs", "targets")
    }
    for name, values in examples.items():
        if role_of(name) == "weights":
            _check_weights_remain(name, values, dtype, first)
    return nonzero


def check_all(data: Dataset, blocks: Sequence[CheckedBlock], dtype: np.dtype[Any]) -> None:
    """Raise DataError if no example counts, or if all numbers of a column are 0 in the precision of the run alone."""
    if not any(block.counts for block in blocks):
        raise DataError(f"{data.name}: the weights of all examples are 0, so that none of them counts")
    for column in blocks[0].nonzero:
        stored, used = (any(block.nonzero[column][i] for block in blocks) for i in range(2))
        if stored and not used:
            raise DataError(
                f"{data.name}: all {column} are so small that they are 0 in {dtype}; multiply them by a factor, or set "
                'dtype = "float64"'
            )


def sample_digest(data: Dataset, sample: int = SAMPLE_ROWS) -> str:
    """Return a digest of a sample of so many rows and of the size of a data set, which takes little time."""
    spread = np.linspace(0, max(len(data) - 1, 0), sample).astype(np.int64)
    chosen = spread[np.diff(spread, prepend=-1) > 0]  # np.unique would import numpy.ma, on each rank
    rows = block_rows(data)
    pieces, stated = np.split(chosen, range(rows, len(chosen), rows)), _stated(data)
    digest = combined([_digest(data.read(piece), stated) for piece in pieces])
    return f"{len(data)} examples {digest[:16]}"


def _stated(data: Dataset) -> str:
    """Return the scales and shifts of a data set, which are a part of its digest."""
    stated = stated_scales(data)
    is_plain = all(column == "inputs" and shift is None for column, (_, shift) in stated.items())
    return repr(stated["inputs"][0] if stated else None) if is_plain else repr(stated)


def combined(digests: list[bytes]) -> str:
    """Return the digest of a data set from the digests of all its blocks in order."""
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _check_inputs(name: str, inputs: Array, first: int) -> None:
    if not all_finite(inputs):
        row = int(np.argmax(~np.isfinite(inputs).reshape(len(inputs), -1).all(axis=1)))
        value = inputs[row].ravel()[np.argmax(~np.isfinite(inputs[row].ravel()))]
        raise UserError(
            f"{name} must be finite, but those of example {first + row} contain {value}; "
            "remove the example, replace the value, or give it the weight 0"
        )


def _check_weights(name: str, weights: Array, first: int) -> None:
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        row = int(np.argmax(wrong.reshape(len(wrong), -1).any(axis=1)))
        raise UserError(
            f"{name} must be finite and not negative, but that of example {first + row} is {weights[wrong][0]}"
        )


FINITE_CHECKS: Mapping[str, Callable[[str, Array, int], None]] = {"inputs": _check_inputs, "weights": _check_weights}


def _check_precision(
    column: str, values: Array, scaling: Scaling, dtype: np.dtype[Any], first: int
) -> tuple[bool, bool]:
    """Return whether any number is not 0, as it is stored and as it is used.

    Raises:
        UserError: the precision of the run cannot hold a number, or what the scaling makes of it.
    """
    if scaling.center is None and not isinstance(scaling.factor, np.ndarray):
        return _check_largest(column, values, scaling.factor, dtype, first)
    with np.errstate(all="ignore"):
        used = scaling.apply(values, dtype)
    wrong = ~np.isfinite(used) & np.isfinite(values)
    if wrong.any():
        row = int(np.argmax(wrong.reshape(len(wrong), -1).any(axis=1)))
        raise UserError(
            f"{column} of example {first + row} contain {values[wrong][0]:g}, of which scale and shift make "
            f'{used[wrong][0]} in {dtype}; correct them, or set dtype = "float64"'
        )
    return True, True


def _check_largest(
    column: str, values: Array, scale: float | None, dtype: np.dtype[Any], first: int
) -> tuple[bool, bool]:
    """Return and raise what _check_precision() does, from the number of largest magnitude alone."""
    if values.size == 0 or (scale is None and (values.dtype.kind != "f" or values.dtype == dtype)):
        return True, True
    size = max(abs(values.max().item()), abs(values.min().item()))
    with np.errstate(all="ignore"):
        used = dtype.type(size) * dtype.type(1 if scale is None else scale)
    if np.isfinite(size) and not np.isfinite(used):
        row = int(np.argmax((np.abs(values.astype(np.longdouble)) == size).reshape(len(values), -1).any(axis=1)))
        product = "" if scale is None else f", times the scale {scale:g}"
        raise UserError(
            f"{column} of example {first + row} contain {size:g} in magnitude, which {dtype} cannot hold{product}; "
            'make them smaller, or set dtype = "float64"'
        )
    return bool(size != 0), bool(used != 0)


def _check_weights_remain(name: str, weights: Array, dtype: np.dtype[Any], first: int) -> None:
    if weights.dtype.kind != "f" or weights.dtype.itemsize <= dtype.itemsize:
        return
    with np.errstate(all="ignore"):
        used = weights.astype(dtype)
    wrong = ((used == 0) & (weights != 0)) | np.isinf(used)
    if wrong.any():
        row = int(np.argmax(wrong.reshape(len(wrong), -1).any(axis=1)))
        raise UserError(
            f"{name} of example {first + row} are {weights[wrong][0]}, which is {used[wrong][0]} in {dtype}; "
            'multiply all weights by a factor, or set dtype = "float64"'
        )


def _digest(examples: Examples, stated: str) -> bytes:
    digest = hashlib.sha256(stated.encode())
    for name, column in examples.items():
        digest.update(f"{name if '.' in name else ''}{column.dtype.str}{column.shape}".encode())
        digest.update(np.ascontiguousarray(column).reshape(-1).view(np.uint8).data)
    return digest.digest()
