"""One pass over a data set before training, which checks all numbers and identifies the data by a digest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from dbp.data.dataset import Dataset, Examples
from dbp.errors import UserError
from dbp.types import Array

BLOCK_BYTES, MAX_BLOCK_ROWS = 1 << 22, 4096  # of the rows that are checked at a time
SAMPLE_ROWS = 64

CheckTargets = Callable[[Array, Array | None, int], None]  # arguments: targets, weights, number of the first row


def block_rows(data: Dataset) -> int:
    """Return how many rows are checked at a time: a number that depends on the data only, as digests do on it."""
    row_bytes = sum(column.nbytes for column in data.read(slice(0, 1)) if column is not None)
    return max(1, min(MAX_BLOCK_ROWS, BLOCK_BYTES // max(1, row_bytes)))


def block_count(data: Dataset) -> int:
    """Return the number of blocks of rows in which a data set is checked."""
    return -(-len(data) // block_rows(data))


def check_blocks(data: Dataset, blocks: range, check_targets: CheckTargets) -> list[bytes]:
    """Check some blocks of rows, and return a digest of each.

    Args:
        data: the data set.
        blocks: numbers of the blocks that this rank checks.
        check_targets: raises UserError for targets or weights that do not fit.

    Raises:
        UserError: an example breaks a rule; names the data set, the rule and the first such row.
    """
    digests, rows = [], block_rows(data)
    for first in range(blocks.start * rows, blocks.stop * rows, rows):
        examples = data.read(slice(first, first + rows))
        try:
            _check_inputs_and_weights(examples, first)
            assert examples.targets is not None
            check_targets(examples.targets, examples.weights, first)
        except UserError as error:
            raise UserError(f"{data.name}: {error}") from None
        digests.append(_digest(examples, data.scale))
    return digests


def sample_digest(data: Dataset) -> str:
    """Return a digest of a sample of rows and of the size of a data set, which takes little time."""
    spread = np.linspace(0, max(len(data) - 1, 0), SAMPLE_ROWS).astype(np.int64)
    chosen = spread[np.diff(spread, prepend=-1) > 0]  # np.unique would import numpy.ma, on each rank
    pieces = np.split(chosen, range(block_rows(data), len(chosen), block_rows(data)))
    digest = combined([_digest(data.read(piece), data.scale) for piece in pieces])
    return f"{len(data)} examples {digest[:16]}"


def combined(digests: list[bytes]) -> str:
    """Return the digest of a data set from the digests of all its blocks in order."""
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _check_inputs_and_weights(examples: Examples, first: int) -> None:
    inputs, weights = examples.inputs, examples.weights
    if inputs.dtype.kind == "f" and not np.isfinite(inputs).all():
        row = int(np.argmax(~np.isfinite(inputs).reshape(len(inputs), -1).all(axis=1)))
        value = inputs[row].ravel()[np.argmax(~np.isfinite(inputs[row].ravel()))]
        raise UserError(
            f"inputs must be finite, but those of example {first + row} contain {value}; "
            "remove the example or replace the value"
        )
    if weights is not None:
        wrong = ~(np.isfinite(weights) & (weights >= 0))
        if wrong.any():
            row = int(np.argmax(wrong.reshape(len(wrong), -1).any(axis=1)))
            raise UserError(
                f"weights must be finite and not negative, but that of example {first + row} is {weights[wrong][0]}"
            )


def _digest(examples: Examples, scale: float | None) -> bytes:
    digest = hashlib.sha256(repr(scale).encode())
    for column in examples:
        if column is not None:
            digest.update(f"{column.dtype.str}{column.shape}".encode())
            digest.update(np.ascontiguousarray(column).reshape(-1).view(np.uint8).data)
    return digest.digest()
