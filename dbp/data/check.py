"""One pass over a data set before training, which checks all numbers and identifies the data by a digest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from dbp.data.dataset import Dataset, Examples
from dbp.errors import UserError
from dbp.types import Array

BLOCK_ROWS = 4096

CheckTargets = Callable[[Array, Array | None, int], None]  # arguments: targets, weights, number of the first row


def block_count(data: Dataset) -> int:
    """Return the number of blocks of rows in which a data set is checked."""
    return -(-len(data) // BLOCK_ROWS)


def check_blocks(data: Dataset, blocks: range, check_targets: CheckTargets) -> list[bytes]:
    """Check some blocks of rows, and return a digest of each.

    Args:
        data: the data set.
        blocks: numbers of the blocks that this rank checks.
        check_targets: raises UserError for targets or weights that do not fit.

    Raises:
        UserError: an example breaks a rule; names the data set, the rule and the first such row.
    """
    digests = []
    for block in blocks:
        first = block * BLOCK_ROWS
        examples = data.read(slice(first, first + BLOCK_ROWS))
        try:
            _check_inputs_and_weights(examples, first)
            assert examples.targets is not None
            check_targets(examples.targets, examples.weights, first)
        except UserError as error:
            raise UserError(f"{data.name}: {error}") from None
        digests.append(_digest(examples, data.scale))
    return digests


def sample_digest(data: Dataset, rows: int = 64) -> str:
    """Return a digest of a sample of rows and of the size of a data set, which takes little time."""
    spread = np.linspace(0, max(len(data) - 1, 0), rows).astype(np.int64)
    chosen = spread[np.diff(spread, prepend=-1) > 0]  # np.unique would import numpy.ma, on each rank
    return f"{len(data)} examples {_digest(data.read(chosen), data.scale).hex()[:16]}"


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
