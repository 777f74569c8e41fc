"""What a data set holds, as far as it decides on a model and a loss."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dbp.data import Dataset, meaning_of
from dbp.data.check import block_rows
from dbp.data.meaning import listed
from dbp.errors import UserError
from dbp.text import count_text, shape_text
from dbp.types import Array

MOST_CLASSES = 1000  # of targets that are whole numbers and nothing says to be classes
LEAST_IMAGE = 16  # pixels along a side, from which on convolutions are worth their time
MOST_VALUES = 20  # of targets that are whole numbers, up to which they may be meant as classes


class DataSummary(NamedTuple):
    """What a data set holds.

    Args:
        examples: their number.
        input_shape: of an example.
        are_pixels: whether its inputs are integers with a scale, as those of images are.
        outputs: numbers that a model must return for an example.
        classes: the names of the classes, or their numbers as texts; empty if the targets are numbers.
        rarest: examples of the rarest class; all if the targets are numbers.
        few_values: the values of targets that are numbers, if they are few and whole; else none.
    """

    examples: int
    input_shape: tuple[int, ...]
    are_pixels: bool
    outputs: int
    classes: tuple[str, ...]
    rarest: int
    few_values: tuple[int, ...] = ()

    @property
    def is_image(self) -> bool:
        """Return True if the inputs have the axes of an image that is not small."""
        return len(self.input_shape) in (2, 3) and min(self.input_shape[:2]) >= LEAST_IMAGE

    def __str__(self) -> str:
        inputs = f"of shape {shape_text(self.input_shape)}"
        if len(self.input_shape) == 1:
            inputs = f"of {count_text(self.input_shape[0], 'input')}"
        targets = count_text(self.outputs, "number")
        if self.classes:
            targets = f"{self.outputs:,} classes ({listed(self.classes)})"
        return f"{count_text(self.examples, 'example')} {inputs}, and {targets} to predict"


def summary_of(data: Dataset) -> DataSummary:
    """Return what a data set holds; all its targets are read.

    Raises:
        UserError: it has no targets, or others than one class or some numbers per example.
    """
    meaning = meaning_of(data)
    targets = _targets_of(data)
    known = meaning["targets"].classes if "targets" in meaning else None
    names, rarest = _classes_in(targets, known)
    pixels = meaning["inputs"].scale is not None and meaning["inputs"].kind == "integers"
    outputs = len(names) or (targets.shape[1] if targets.ndim > 1 else 1)
    few = () if names else _few_values(targets)
    return DataSummary(len(data), tuple(data.input_shape), pixels, outputs, names, rarest, few)


def _targets_of(data: Dataset) -> Array:
    rows = block_rows(data)
    blocks = [data.read(slice(start, min(start + rows, len(data)))).targets for start in range(0, len(data), rows)]
    found = [block for block in blocks if block is not None]
    if not found:
        raise UserError(f"{data.name}: has no targets, so that there is nothing to learn")
    targets = np.concatenate(found)
    if targets.ndim > 2:
        raise UserError(
            f"{data.name}: targets have shape {targets.shape}, for which there is no first config; write one (see "
            "docs/config.md), or begin with an example"
        )
    return targets[:, 0] if targets.shape[1:] == (1,) else targets


def _few_values(targets: Array) -> tuple[int, ...]:
    """Return the values of whole numbers, if they are few; else none."""
    if targets.ndim > 1 or (targets.dtype.kind == "f" and (targets != np.floor(targets)).any()):
        return ()
    values = np.unique(targets)
    return tuple(map(int, values)) if 1 < len(values) <= MOST_VALUES else ()


def _classes_in(targets: Array, known: tuple[str, ...] | None) -> tuple[tuple[str, ...], int]:
    """Return the names of the classes in targets, none if they are numbers, and the examples of the rarest one.

    Args:
        targets: (examples,) or (examples, numbers).
        known: the names that the data has; empty if it says that the targets are numbers; None if it says nothing.
    """
    if targets.ndim > 1 and ((targets != 0).sum(axis=1) == 1).all() and (targets.sum(axis=1) == 1).all():
        targets = targets.argmax(axis=1)  # a column of 0 and 1 for each class
        known = known or None
    if known and targets.ndim == 1:
        inside = targets[(targets >= 0) & (targets < len(known))]  # others may have weight 0
        return known, int(np.bincount(inside.astype(np.int64), minlength=len(known)).min())
    is_whole = targets.ndim == 1 and bool((targets == np.floor(targets)).all()) and targets.min() >= 0
    if known == () or not is_whole or targets.max() >= MOST_CLASSES:
        return (), len(targets)
    counts = np.bincount(targets.astype(np.int64))
    if len(counts) < 2 or not counts.all():  # numbers such as years
        return (), len(targets)
    return tuple(map(str, range(len(counts)))), int(counts.min())
