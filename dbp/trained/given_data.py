"""What a user gives a trained model, as a data set: arrays as they are stored, files, or a data set of any kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from typing import Any

import numpy as np

from dbp.config.data import FILES, NAMES, Data
from dbp.data import (
    FLOATS,
    INTEGERS,
    ArrayDataset,
    ColumnMeaning,
    Dataset,
    Meaning,
    Numbers,
    Scaling,
    aligned,
    check_scale,
    role_of,
    sample_digest,
)
from dbp.errors import UserError, unknown
from dbp.parallel import Communicator, agree, check_equal_on_ranks
from dbp.run.sources import open_on_all_ranks
from dbp.trained.evaluator import DataFile, aligned_file, how_to_pass_scale

OPTION = "scale="  # how a program states the scale of inputs
COMPARED_ROWS = 16  # of arrays that ranks are given
COLUMNS = NAMES[:-1]  # of arrays; offsets are a part of Ragged


def as_data_set(
    given: Any, data: Data, meaning: Meaning, comm: Communicator, scale: Numbers | None, with_targets: bool
) -> Dataset:
    """Return what is given as a data set in the order and the units of a model's training data; collective.

    Args:
        given: inputs; a tuple (inputs, targets) or (inputs, targets, weights); a dictionary of these and of a mask; a
            file, a list of files or a table of them; a data set; a Data, whose `train` is meant.
        data: the settings of the run that trained the model.
        meaning: of its training data.
        comm: the ranks, all of which give the same.
        scale: factor on the inputs, if the user states one; else arrays have that of the training data.
        with_targets: whether targets are needed; else they are left out.

    Raises:
        UserError: it is none of these, or its numbers do not mean the same.
    """
    if isinstance(given, Data):
        opened = open_on_all_ranks(comm, given, given.train, with_targets)
        return agree(comm, aligned, opened, meaning, how_to_pass_scale(OPTION))
    if not isinstance(given, np.ndarray) and isinstance(given, Dataset):  # a protocol, whose check takes long
        if scale is not None:
            raise UserError(f"scale goes with arrays and files, but {given.name} is a data set; set the scale there")
        return agree(comm, aligned, given, meaning, how_to_pass_scale(OPTION))
    if _names_files(given):
        files = agree(comm, lambda: replace(data, train=given, validation=None, test=None).train)
        return aligned_file(data, meaning, DataFile(files, scale), comm, with_targets, OPTION)
    found = agree(comm, _in_memory, given, data, meaning, scale, with_targets)
    if comm.size > 1:
        sample = {"the arrays": sample_digest(found, COMPARED_ROWS)}
        check_equal_on_ranks(comm, sample, "give all ranks the same arrays, whole")
    return found


def _names_files(given: Any) -> bool:
    """Return True if files are given: a name, a list of names, or a table."""
    if isinstance(given, list):
        return bool(given) and all(isinstance(name, (str, PathLike)) for name in given)
    if isinstance(given, Mapping):
        names = (value for value in given.values() if value is not None)
        return FILES in given or all(isinstance(name, (str, PathLike)) for name in names)
    return isinstance(given, (str, PathLike))


def _in_memory(given: Any, data: Data, meaning: Meaning, scale: Numbers | None, with_targets: bool) -> Dataset:
    columns = _columns_of(given, meaning, with_targets)
    inputs = columns["inputs"]
    found = ArrayDataset(
        inputs, columns.get("targets"), columns.get("weights"), name="the arrays", mask=columns.get("mask")
    )
    known = {column: _as_in_training(column, what, data, meaning, scale) for column, what in found.meaning.items()}
    names = getattr(inputs, "columns", None)  # of a table with named columns, such as a DataFrame
    if names is not None and "inputs" in known:
        known["inputs"] = known["inputs"]._replace(names=tuple(map(str, names)))
    found.meaning = known
    found.scale = next(what.scale for column, what in known.items() if role_of(column) == "inputs")
    return aligned(found, meaning, None)


def _columns_of(given: Any, meaning: Meaning, with_targets: bool) -> dict[str, Any]:
    """Return the columns that are given, by name, without those that are not used."""
    has_names = any(column.startswith("inputs.") for column in meaning)
    if isinstance(given, Mapping) and given and has_names and not any(name in COLUMNS for name in given):
        given = {"inputs": given}  # the inputs themselves, by their names
    if isinstance(given, tuple):
        if len(given) not in (2, 3):
            raise UserError(
                f"a tuple must be (inputs, targets), or with weights as a third, but has {len(given)} parts"
            )
        given = dict(zip(COLUMNS, given, strict=False))
    columns = dict(given) if isinstance(given, Mapping) else {"inputs": given}
    for name in columns:
        if name not in COLUMNS:
            raise unknown("column", name, COLUMNS)
    needed = ("inputs", "targets") if with_targets else ("inputs",)
    for name in needed:
        if columns.get(name) is None:
            raise UserError(f"{name} are missing; give {' and '.join(needed)}, as a tuple of arrays, or in files")
    return columns if with_targets else {name: values for name, values in columns.items() if name != "targets"}


def _as_in_training(
    column: str, what: ColumnMeaning, data: Data, meaning: Meaning, scale: Numbers | None
) -> ColumnMeaning:
    """Return the meaning of a column of arrays: that of the training data, as arrays say nothing of theirs.

    Raises:
        UserError: inputs are floats where those of the training data are integers with a scale: they may be scaled
            already.
    """
    if role_of(column) != "inputs":
        return meaning.get(column, what)._replace(kind=what.kind)
    known = meaning.get(column, ColumnMeaning(FLOATS, data.scale, shift=data.shift))
    if scale is not None:
        return known._replace(kind=what.kind, scale=check_scale("scale", scale), shift=None)
    is_scaled = not Scaling.of(known.scale, known.shift).is_identity
    if is_scaled and what.kind == FLOATS and known.kind == INTEGERS:
        raise UserError(
            f"{column} are floats, but those of the training data are {known.numbers}, which the model scales itself; "
            f"give the integers as they are stored, or pass {OPTION}1 if they are scaled already"
        )
    return known._replace(kind=what.kind)
