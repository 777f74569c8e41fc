"""The settings of the data of a run: the section [data] of a config."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from dbp.checks import check_bytes, check_integer
from dbp.data import ArrayDataset, Dataset, check_scale, check_shift, role_of, with_path
from dbp.errors import UserError, unknown
from dbp.named_arrays import all_of, each
from dbp.nn import NUMBERS
from dbp.reading.splits import Split
from dbp.text import brief

ORDERS = ("auto", "rows", "chunks")
STANDARDIZE = {"inputs": ("inputs",), "targets": ("targets",), "both": ("inputs", "targets")}  # the roles
FROM, COLUMNS = "from", "columns"  # keys of standardize: what has mean and deviation, and of which columns
PARTS = ("train", "validation", "test")  # settings of data that may be files
OFFSETS = "offsets"
NAMES = ("inputs", "targets", "weights", "mask", OFFSETS)  # of columns, for all parts or for one
SEVERAL = NAMES[:2]  # of which Parquet files may have several, side by side
FILES = "files"
ARRAY = ".npy"  # a column that is a file of its own


def path_as_text(value: Any) -> Any:
    """Return a path as text, and anything else as it is."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value


@dataclass(frozen=True)
class Data:
    """The sources of the examples.

    Args:
        train: an HDF5 file ("dbp:digits-train" comes with dbp); a group in one ("all.h5:/train"); a pattern of names of
            files ("part-*.h5"); a list of these; a table {files, inputs, targets, weights} with names of its own; a
            data set; a tuple of arrays (inputs, targets) or (inputs, targets, weights), or a dictionary of them.
        validation: a fraction of the training data, or a table {part, take, groups} or {folds, fold, take, groups} of
            what is held out of it, see Split; or data of its own; evaluated after every epoch.
        test: data that is evaluated once, at the end.
        inputs: name of the inputs in the files; of Parquet files also a list of names of columns, side by side. A table
            such as {image = "img", meta = "x"} has several inputs, by the names under which the model gets them.
        targets: name of the targets in the files, likewise.
        weights: name of the example weights in the files; by default "weights", if there are any. A table has those of
            each target by its name; a target that it leaves out has weight 1.
        mask: name of the mask in the HDF5 files, 1 or 0 for each position of the inputs; by default all positions hold
            data. A table has those of each input by its name.
        offsets: name of the offsets in the HDF5 files, by which inputs are cut into rows of unequal length, and targets
            and weights that have as many values.
        scale: factor on the inputs: a number, or one for each along the last axis; by default their attribute "scale".
            A table has those of several inputs by name.
        shift: what is added to them then, likewise. Where either is set, the attributes of both are ignored.
        standardize: "inputs", "targets" or "both" to subtract the mean of the training examples and divide by their
            deviation, for each element along the last axis; a list of columns, such as ["inputs.meta",
            "targets.energy"]; {"from": RUN} to do so as another run does, or
            {"from": FILE, "columns": "both"} by those of the examples in a data file, by default of the inputs.
        order: "rows" to draw training examples one by one; "chunks" to draw chunks and mix the rows of a window; "auto"
            for chunks where the data is stored in some.
        window: least number of training examples that are mixed with one another, if chunks are drawn; by default as
            many as chunks and mini-batches ask for.
        memory: bytes of unpacked rows that each node keeps, or text such as "2 GB"; by default half of what is free. It
            has no influence on the order.
        draw_weights: name of a column of weights, in proportion to which training examples are drawn.
    """

    train: Any
    validation: Any = None
    test: Any = None
    inputs: str | Sequence[str] | Mapping[str, Any] = "inputs"
    targets: str | Sequence[str] | Mapping[str, Any] = "targets"
    weights: str | Mapping[str, str] | None = None
    mask: str | Mapping[str, str] | None = None
    offsets: str | None = None
    scale: Any = None
    shift: Any = None
    standardize: Any = None
    order: str = "auto"
    window: int | None = None
    memory: int | str | None = None
    draw_weights: str | None = None

    def __post_init__(self) -> None:
        self._check_order()
        self._check_standardize()
        _ = self.memory_bytes  # which checks it
        for key, check in (("scale", check_scale), ("shift", check_shift)):
            given = getattr(self, key)
            by_name = given.items() if isinstance(given, Mapping) else ()
            checked = {name: check(f"data.{key}.{name}", value) for name, value in by_name}
            for name in checked:
                if isinstance(self.inputs, Mapping) and name not in self.inputs:
                    raise unknown(f"inputs of data.{key}", name, self.inputs)
            if given is not None:
                object.__setattr__(self, key, checked or check(f"data.{key}", given))
        for name in NAMES:
            object.__setattr__(self, name, names_of(f"data.{name}", name, getattr(self, name)))
        for name in PARTS:
            object.__setattr__(self, name, self._source(name, getattr(self, name)))
        if isinstance(self.validation, (int, float)) and not 0 < self.validation < 1:
            raise UserError(f"data.validation must be a file or a fraction between 0 and 1, but is {self.validation}")
        if not isinstance(self.draw_weights, (str, type(None))):
            raise UserError(f"data.draw_weights must be the name of a column, but is {brief(self.draw_weights)}")

    @property
    def split(self) -> Split | None:
        """Return what is held out of the training data for validation; None if nothing is."""
        if isinstance(self.validation, (int, float)):
            return Split(self.validation)
        return self.validation if isinstance(self.validation, Split) else None

    def _extra_columns(self) -> list[str]:
        """Return the names of columns of the training data that no model sees."""
        how = self.validation
        groups = how.get("groups") if isinstance(how, Mapping) else getattr(how, "groups", None)
        return [name for name in (groups, self.draw_weights) if isinstance(name, str)]

    def _check_standardize(self) -> None:
        given = self.standardize
        if given is None or (isinstance(given, str) and given in STANDARDIZE):
            return
        if isinstance(given, (list, tuple)) and given and all(map(_is_column, given)):
            object.__setattr__(self, "standardize", tuple(given))
            return
        if isinstance(given, str):
            if "." in given and _is_column(given):
                raise UserError(f"data.standardize must be a list of columns, but is '{given}'; write [\"{given}\"]")
            raise unknown("data.standardize", given, STANDARDIZE)
        table = dict(given) if isinstance(given, Mapping) and set(given) | {COLUMNS} == {FROM, COLUMNS} else {}
        table = {key: path_as_text(value) for key, value in table.items()}
        if not isinstance(table.get(FROM), str):
            raise UserError(
                'data.standardize must be "inputs", "targets" or "both", a list of columns such as ["inputs.meta"], or '
                f'{{ from = "a run, a checkpoint or a data file" }}, but is {brief(given)}'
            )
        if COLUMNS in table and table[COLUMNS] not in STANDARDIZE:
            raise unknown(f"data.standardize.{COLUMNS}", table[COLUMNS], STANDARDIZE)
        object.__setattr__(self, "standardize", table)

    @property
    def standardized_roles(self) -> tuple[str, ...]:
        """Return the roles of the columns that are standardized, or their names; none if those of another run are."""
        if isinstance(self.standardize, tuple):
            return self.standardize
        named = self.standardize.get(COLUMNS) if isinstance(self.standardize, Mapping) else self.standardize
        return () if named is None else STANDARDIZE[named]

    @property
    def standardize_from(self) -> str | None:
        """Return the run, checkpoint or data file whose mean and deviation are taken, if any."""
        return self.standardize[FROM] if isinstance(self.standardize, Mapping) else None

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

    def _source(self, part: str, given: Any) -> Any:
        """Return a source of examples in its plain form; raise UserError if it is none."""
        key, given = f"data.{part}", path_as_text(given)
        if isinstance(given, tuple):
            return _in_memory(_by_name(given, f"the {part} arrays"), f"the {part} arrays", self.scale, self.shift)
        if isinstance(given, list):
            return _files(key, given)
        if isinstance(given, Mapping):
            if part == "validation" and not {FILES, *NAMES} & given.keys():
                return _split(given)
            if FILES in given or _are_names(given):
                return _table(key, given)
            return _in_memory(given, f"the {part} arrays", self.scale, self.shift, self._extra_columns())
        may_be_missing = given is None and part != "train"
        is_fraction = isinstance(given, (int, float)) and not isinstance(given, bool) and part == "validation"
        if may_be_missing or is_fraction or isinstance(given, (str, Dataset)):
            return given
        if isinstance(given, Split) and part == "validation":
            return given
        shown = f"a {type(given).__name__}" if isinstance(given, np.ndarray) else brief(given)
        raise UserError(
            f"{key} must be a file, a list of files, a table, a data set, or a tuple (inputs, targets), but is {shown}"
        )


def check_standardized_targets(data: Data, losses: Sequence[Any]) -> None:
    """Raise UserError if targets are to be standardized that no loss takes for numbers.

    Args:
        data: the settings of the data.
        losses: the loss of the run, or those of its targets.
    """
    chosen = [one for one in data.standardized_roles if role_of(one) == "targets"]
    # Of columns with names each is compared with its own loss, when the data is known.
    if chosen in ([], [one for one in chosen if "." in one]) or any(
        getattr(one, "targets_are", "") == NUMBERS for one in losses
    ):
        return
    from dbp.nn import FunctionLoss  # which a run with another loss does not need

    is_function = isinstance(losses[0], FunctionLoss)
    remedy = ', or say what the targets are: FunctionLoss(function, targets_are="numbers")' * is_function
    raise UserError(
        f"data.standardize must leave out targets with the loss {losses[0].kind}, whose targets are not known to be "
        f'plain numbers; set it to "inputs"{remedy}'
    )


def _is_column(name: Any) -> bool:
    """Return True for the name of a column that can be standardized, such as inputs or targets.energy."""
    return isinstance(name, str) and role_of(name) in SEVERAL


def names_of(key: str, role: str, given: Any) -> Any:
    """Return the name of a column, names side by side, or a table of either by the name that the column gets.

    Args:
        key: for messages.
        role: what the column is.
        given: as the user has set it.
    """
    if isinstance(given, Mapping) and role != OFFSETS:
        if not given:
            raise UserError(f"{key} must name a column, but is empty; leave it out")
        for name in given:
            if not isinstance(name, str) or not name.isidentifier():
                raise UserError(f"{key} must have names that are identifiers, such as image, but has {brief(name)}")
        return {name: _name_of(f"{key}.{name}", role, path_as_text(one)) for name, one in given.items()}
    return None if given is None and role not in SEVERAL else _name_of(key, role, path_as_text(given))


def _name_of(key: str, role: str, given: Any) -> str | tuple[str, ...]:
    """Return the name of one column; of inputs and targets also the names of several side by side."""
    if role in SEVERAL:
        return column_names(key, given)
    if not isinstance(given, str):
        raise UserError(f"{key} must be the name of a column, but is {brief(given)}")
    return given


def column_names(key: str, given: Any) -> str | tuple[str, ...]:
    """Return the name of a column, or the names of several; raise UserError for anything else."""
    if isinstance(given, str):
        return given
    if isinstance(given, (list, tuple)) and given and all(isinstance(name, str) for name in given):
        return tuple(given)
    raise UserError(f"{key} must be the name of a column, or a list of names, but is {brief(given)}")


def _split(given: Mapping[str, Any]) -> Split:
    """Return the part that a table describes; raise UserError for a key that is not known."""
    known = [field.name for field in fields(Split)]
    for name in given:
        if name not in known:
            raise unknown("key", f"data.validation.{name}", [f"data.validation.{key}" for key in (*known, FILES)])
    return Split(**given)


def _by_name(columns: tuple[Any, ...], name: str) -> dict[str, Any]:
    if len(columns) not in (2, 3):
        raise UserError(
            f"{name} must be (inputs, targets) or (inputs, targets, weights), but has {len(columns)} elements"
        )
    return dict(zip(NAMES, columns, strict=False))


def _in_memory(columns: Mapping[str, Any], name: str, scale: Any, shift: Any, extra: Sequence[str] = ()) -> Dataset:
    """Return the data set of arrays by name, of which some, by their names, are for no model."""
    for column in columns:
        if column not in (*NAMES[:-1], *extra):  # offsets are a part of Ragged
            raise unknown(f"key of {name}", column, [*NAMES[:-1], *extra])
    for column in ("inputs", "targets"):
        if columns.get(column) is None:
            raise UserError(f"{name} must have {column}, but have {', '.join(columns) or 'nothing'}")
    inputs, targets, weights, mask = (columns.get(column) for column in NAMES[:-1])
    others = {column: columns[column] for column in extra if column in columns}
    return ArrayDataset(inputs, targets, weights, scale, name, shift=shift, others=others, mask=mask)


def _files(key: str, given: Any) -> str | list[str]:
    """Return the name of a file, or a list of names; raise UserError for anything else."""
    given = path_as_text(given)
    names = [path_as_text(name) for name in given] if isinstance(given, list) else [given]
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong and isinstance(given, list):
        raise UserError(
            f"{key} must be a list of files, but has a {type(wrong[0]).__name__} in it; give arrays as a tuple "
            "(inputs, targets)"
        )
    if wrong or not names:
        raise UserError(f"{key} must be a file or a list of files, but is {brief(given)}")
    return names if isinstance(given, list) else str(given)


def _are_names(given: Mapping[str, Any]) -> bool:
    """Return True if all values are names, or tables of names, rather than arrays."""
    values = [one for value in given.values() for one in (all_of(value) or [None])]
    return all(isinstance(path_as_text(value), (str, type(None))) for value in values)


def _table(key: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table of files and names of columns; raise UserError if it is none."""
    for name in given:
        if name not in (FILES, *NAMES):
            raise unknown("key", f"{key}.{name}", [f"{key}.{known}" for known in (FILES, *NAMES)])
    table: dict[str, Any] = {name: path_as_text(value) for name, value in given.items() if value is not None}
    table |= {name: names_of(f"{key}.{name}", name, table[name]) for name in NAMES if name in table}
    names = [one for name in table.values() for one in all_of(name)]
    if FILES in table:
        table[FILES] = _files(f"{key}.{FILES}", table[FILES])
    elif not table or not all(isinstance(name, str) and name.endswith(ARRAY) for name in names):
        raise UserError(
            f"{key}.{FILES} is missing; name the files, or a file {ARRAY} for each column, such as "
            f'{{ inputs = "x{ARRAY}", targets = "y{ARRAY}" }}'
        )
    return table


def is_in_files(source: Any) -> bool:
    """Return True if a source of examples is in files: a name, a list of names, or a table with them."""
    is_table = isinstance(source, Mapping) and any(key in source for key in (FILES, *NAMES))
    return is_table or isinstance(source, (str, list))


def with_paths(source: Any, change: Callable[[str], str]) -> Any:
    """Return a source of examples with other paths to its files; anything but files as it is.

    Args:
        source: the value of a setting such as data.train, checked or not.
        change: returns the other path to a file.
    """
    if isinstance(source, str):
        return with_path(source, change)
    if isinstance(source, list):
        return [with_paths(name, change) if isinstance(name, str) else name for name in source]
    if isinstance(source, Mapping) and is_in_files(source):
        paths = (FILES,) if FILES in source else NAMES
        return {
            key: each(lambda one: with_paths(one, change), value) if key in paths else value
            for key, value in source.items()
        }
    return source
