"""Columns that training examples are split and drawn by: classes, groups and weights. Rank 0 reads them."""

from __future__ import annotations

from typing import Any

import numpy as np

from dbp.config.data import Data
from dbp.data import Dataset, role_of
from dbp.data.check import block_rows
from dbp.data.dataset import example_form
from dbp.data.source import FileSource
from dbp.errors import UserError
from dbp.parallel import Communicator, from_rank_0, shared_from_rank_0
from dbp.reading.draws import ends_of
from dbp.reading.splits import GROUPS, STRATIFIED, mark
from dbp.reading.subset import Subset, whole_of
from dbp.text import shortened
from dbp.types import Array


def held_out_marks(comm: Communicator, data: Data, source: FileSource | None, full: Dataset, seed: int) -> Array | None:
    """Return the marks of the rows held out by class or group, eight rows a byte; None for other splits; collective.

    Args:
        comm: the ranks.
        data: the settings.
        source: the files of the training data, if it is in files.
        full: the training data with what is held out.
        seed: of the run.
    """
    how = data.split
    if how is None or how.take not in (STRATIFIED, GROUPS):
        return None

    def found() -> Array:
        values = classes_of(full) if how.take == STRATIFIED else column_of(source, full, str(how.groups))
        return mark(len(full), values, how, seed)

    return from_rank_0(comm, found)


def drawing_ends(comm: Communicator, data: Data, source: FileSource | None, train: Dataset) -> Array | None:
    """Return where the weight for drawing of each example ends on a line; None without such weights; collective.

    Args:
        comm: the ranks.
        data: the settings.
        source: the files of the training data, if it is in files.
        train: the training examples.
    """
    if data.draw_weights is None:
        return None
    return shared_from_rank_0(comm, _ends, data.draw_weights, source, train)


def _ends(name: str, source: FileSource | None, train: Dataset) -> Array:
    whole = whole_of(train)
    values = column_of(source, whole, name)
    if values.shape == (len(whole), 1):
        values = values[:, 0]
    if isinstance(train, Subset):
        values = values[train.rows_of_whole(np.arange(len(train)))]
    return ends_of(values, f"{whole.name}: the weights for drawing {name!r}")


def column_of(source: FileSource | None, full: Dataset, name: str) -> Array:
    """Return a column of a data set by its name; raise UserError if there is none, or if rows are missing."""
    read: Any = getattr(full, "read_column", None) if source is None else source.read_column
    if read is None:
        raise UserError(
            f"{full.name}: has no columns besides those of the model, so none {name!r}; give the data set a method "
            "read_column(name), or put the column beside the others in a dictionary of arrays"
        )
    values = np.asarray(read(name))
    if len(values) != len(full):
        raise UserError(f"{full.name}: {name!r} must have one row per example, {len(full):,}, but has {len(values):,}")
    return values


def classes_of(full: Dataset) -> Array:
    """Return the class of each example; raise UserError if targets are no classes."""
    targets = _targets(full)
    if targets.ndim == 2 and targets.shape[1] > 1 and ((targets != 0).sum(axis=1) == 1).all():
        return np.asarray(targets.argmax(axis=1))
    if targets[:1].size != 1 or (targets.dtype.kind == "f" and (targets != np.floor(targets)).any()):
        raise UserError(
            f'{full.name}: data.validation.take = "{STRATIFIED}" needs one class per example, but the targets have '
            f"type {targets.dtype} and shape {targets.shape}; take others"
        )
    return targets.reshape(-1)


def _targets(full: Dataset) -> Array:
    columns: Any = getattr(full, "columns", {})
    name = _target_with_classes(full)
    if name in columns:
        return np.asarray(columns[name].read(slice(0, len(full))))
    rows = block_rows(full)
    return np.concatenate([full.read(slice(start, start + rows))[name] for start in range(0, len(full), rows)])


def _target_with_classes(full: Dataset) -> str:
    """Return the column of the only target, or of several that of whole numbers, one for each example.

    Raises:
        UserError: there is none, or more than one.
    """
    form = example_form(full)
    targets = [column for column in form if role_of(column) == "targets"]
    if len(targets) > 1:
        targets = [column for column in targets if form[column].dtype.kind in "iu" and form[column].size == 1]
    if len(targets) != 1:
        found = f"several have ({shortened(targets)})" if targets else "it has none"
        raise UserError(
            f'{full.name}: data.validation.take = "{STRATIFIED}" needs one column of targets with a class for each '
            f"example, but {found}; take others"
        )
    return targets[0]
