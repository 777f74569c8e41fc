"""The settings of the data of a run: the section [data] of a config."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from dbp.checks import check_bytes, check_integer
from dbp.data import ArrayDataset, Dataset, Numbers, check_scale, check_shift
from dbp.errors import UserError, unknown

ORDERS = ("auto", "rows", "chunks")
PARTS = ("train", "validation", "test")  # settings of data that may be files


def path_as_text(value: Any) -> Any:
    """Return a path as text, and anything else as it is."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _in_memory(columns: tuple[Any, ...], name: str, scale: Numbers | None, shift: Numbers | None) -> Dataset:
    if len(columns) not in (2, 3):
        raise UserError(
            f"{name} must be (inputs, targets) or (inputs, targets, weights), but has {len(columns)} elements"
        )
    inputs, targets, weights = (*columns, None)[:3]
    return ArrayDataset(inputs, targets, weights, scale, name, shift=shift)


@dataclass(frozen=True)
class Data:
    """The sources of the examples.

    Args:
        train: an HDF5 file ("dbp:digits-train" comes with dbp), a data set, or a tuple of arrays (inputs, targets) or
            (inputs, targets, weights).
        validation: a fraction of the training data, or data of its own; evaluated after every epoch.
        test: data that is evaluated once, at the end.
        inputs: name of the inputs in the HDF5 files.
        targets: name of the targets in the HDF5 files.
        weights: name of the example weights in the HDF5 files; by default "weights", if there are any.
        scale: factor on the inputs: a number, or one for each along the last axis; by default their attribute "scale".
        shift: what is added to them then, likewise. Where either is set, the attributes of both are ignored.
        order: "rows" to draw training examples one by one; "chunks" to draw chunks and mix the rows of a window; "auto"
            for chunks where the data is stored in some.
        window: least number of training examples that are mixed with one another, if chunks are drawn; by default as
            many as chunks and mini-batches ask for.
        memory: bytes of unpacked rows that each node keeps, or text such as "2 GB"; by default half of what is free. It
            has no influence on the order.
    """

    train: str | Dataset | tuple[Any, ...]
    validation: float | str | Dataset | tuple[Any, ...] | None = None
    test: str | Dataset | tuple[Any, ...] | None = None
    inputs: str = "inputs"
    targets: str = "targets"
    weights: str | None = None
    scale: Numbers | None = None
    shift: Numbers | None = None
    order: str = "auto"
    window: int | None = None
    memory: int | str | None = None

    def __post_init__(self) -> None:
        self._check_order()
        _ = self.memory_bytes  # which checks it
        if self.scale is not None:
            object.__setattr__(self, "scale", check_scale("data.scale", self.scale))
        if self.shift is not None:
            object.__setattr__(self, "shift", check_shift("data.shift", self.shift))
        for name in PARTS:
            object.__setattr__(self, name, self._source(name, path_as_text(getattr(self, name))))
        if isinstance(self.validation, (int, float)) and not 0 < self.validation < 1:
            raise UserError(f"data.validation must be a file or a fraction between 0 and 1, but is {self.validation}")

    @property
    def memory_bytes(self) -> int | None:
        """Return the bytes of unpacked rows that each node keeps, if they are set."""
        return None if self.memory is None else check_bytes("data.memory", self.memory)

    def _check_order(self) -> None:
        """Raise UserError unless the order is known, and a window is a number of rows that something is drawn in."""
        if self.order not in ORDERS:
            raise unknown("data.order", self.order, ORDERS)
        if self.window is None:
            return
        object.__setattr__(self, "window", check_integer("data.window", self.window, 1))
        if self.order == "rows":
            raise UserError(
                f'data.window must not be set with data.order = "rows", which mixes all rows, but is {self.window}; '
                "leave it out"
            )

    def _source(self, name: str, given: Any) -> Any:
        """Return a source of examples; raise UserError if it is none."""
        if isinstance(given, tuple):
            return _in_memory(given, f"the {name} arrays", self.scale, self.shift)
        may_be_missing = given is None and name != "train"
        is_fraction = isinstance(given, (int, float)) and name == "validation"
        if may_be_missing or is_fraction or isinstance(given, (str, Dataset)):
            return given
        shown = f"a {type(given).__name__}" if isinstance(given, (list, np.ndarray)) else repr(given)
        raise UserError(f"data.{name} must be a file, a data set, or a tuple (inputs, targets), but is {shown}")
