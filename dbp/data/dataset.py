"""Data sets: rows of columns, in memory or in an HDF5 file.

A column has a name: `inputs`, `targets`, `weights`, `mask`, or `inputs.image`, `targets.energy`, `weights.energy` where
a data set has several of a sort. The word before the first dot is the column's role.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from dbp.data.meaning import ColumnMeaning, Meaning, check_names, kind_of, texts
from dbp.data.ragged import Ragged, as_mask, check_positions, unmasked, with_masks
from dbp.data.scaling import Numbers, Scaling, stated_for
from dbp.errors import UserError, remedy, unknown
from dbp.files import machine_memory
from dbp.named_arrays import shapes_of
from dbp.text import brief
from dbp.types import Array, Arrays, Shapes

Rows = slice | Array  # consecutive rows, or row numbers in any order


def role_of(column: str) -> str:
    """Return the role of a column: inputs, targets or weights."""
    return column.partition(".")[0]


def first_inputs(columns: Iterable[str]) -> str:
    """Return the name of the first column of inputs."""
    return next(column for column in columns if role_of(column) == "inputs")


def input_shapes(columns: Mapping[str, Any]) -> Shapes:
    """Return the shape of the inputs of an example, or the shapes of several by name, given all columns."""
    if "inputs" in columns:
        return tuple(columns["inputs"].shape[1:])
    named = [column for column in columns if role_of(column) == "inputs"]
    return {column.removeprefix("inputs."): tuple(columns[column].shape[1:]) for column in named}


def weights_for(targets: str, columns: Mapping[str, Any]) -> str | None:
    """Return the name of the column with the weights of a column of targets, or None: its own, or those of all."""
    own = "weights" + targets.removeprefix("targets")
    return next((name for name in (own, "weights") if name in columns), None)


def by_name(role: str, given: Any) -> dict[str, Any]:
    """Return the columns of a role by name.

    Args:
        role: inputs, targets or weights.
        given: the only column of that role; a mapping, if it has several; or None.
    """
    if isinstance(given, Mapping):
        return {f"{role}.{name}": column for name, column in given.items()}
    return {} if given is None else {role: given}


class Examples(Mapping[str, Array]):
    """Some rows of a data set: its columns by name.

    `inputs`, `targets`, `weights` and `mask` are the columns of a role: an array, or arrays by name if the data set
    names them. All but `inputs` are None if it has none; without weights all examples have weight 1, and without a mask
    all positions of the inputs hold data.
    """

    def __init__(self, columns: Mapping[str, Array]):
        self._columns, names = columns, "".join(columns)
        self._has_names = "." in names  # whether any column has a name besides its role
        # Whether all rows count alike: no weights, no masks. A name such as inputs.mask only costs a closer look.
        self.count_alike = not ("weights" in names or "mask" in names)

    def __getitem__(self, name: str) -> Array:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def of_role(self, role: str) -> Arrays | None:
        """Return the column of a role, or its columns by their names; None if there is none."""
        found = self._columns.get(role)
        if found is not None or not self._has_names:
            return found
        beginning = f"{role}."
        return {n[len(beginning) :]: c for n, c in self._columns.items() if n.startswith(beginning)} or None

    @property
    def inputs(self) -> Any:
        """Return the inputs."""
        found = self.of_role("inputs")
        if found is None:
            raise KeyError("inputs")
        return found

    @property
    def targets(self) -> Any:
        """Return the targets, if there are any."""
        return self.of_role("targets")

    @property
    def weights(self) -> Any:
        """Return the example weights, if there are any."""
        return self.of_role("weights")

    @property
    def mask(self) -> Any:
        """Return which positions of the inputs hold data, booleans (rows, *positions), if some do not."""
        return self.of_role("mask")

    def of_target(self, name: str, masked_inputs: str | None = None) -> Examples:
        """Return a named target as the only one: its column with the weights and the mask that go with it.

        Args:
            name: of the target.
            masked_inputs: the name of the inputs whose positions the target has, "" for inputs without a name; None
                without positions.
        """
        target = f"targets.{name}"
        columns = {"targets": self._columns[target]}
        if (weights := weights_for(target, self._columns)) is not None:
            columns["weights"] = self._columns[weights]
        mask = None if masked_inputs is None else f"mask.{masked_inputs}" if masked_inputs else "mask"
        if mask is not None and mask in self._columns:
            columns["mask"] = self._columns[mask]
        return Examples(columns)


@runtime_checkable
class Dataset(Protocol):
    """The interface of data for training, and a base class for data sets of one's own, which need two methods.

    `name` is for messages, `scale` a factor on the inputs, and `input_shape` the shape of an example, by default that
    of the first one: one shape, or one for each of several inputs by name. A data set may have more: the attribute
    `meaning`, see ColumnMeaning; the attribute `borders`, if rows are best read in units: the first row of each unit,
    and the number of rows at the end; and a method `read_column(name)` that returns columns that no model sees, by
    which examples are split or drawn.
    """

    name: str = "the data set"
    scale: Numbers | None = None

    @cached_property
    def input_shape(self) -> Any:
        """Return the shape of the inputs of an example."""
        return shapes_of(self.read(slice(0, 1)).inputs)

    def __len__(self) -> int:
        """Return the number of examples."""
        ...

    def read(self, rows: Rows) -> Examples:
        """Read rows as they are stored: consecutive ones (a slice), or row numbers in any order (an array).

        The same row has the same numbers whenever and on whatever rank it is read. Several threads do not read at once.
        """
        ...


def paths_of(data: Dataset) -> list[Path]:
    """Return the files of a data set; none if it is in memory."""
    paths: Callable[[], list[Path]] | None = getattr(data, "paths", None)
    return [] if paths is None else paths()


def pieces_of(data: Dataset, rows: range) -> Iterable[tuple[str, int, slice]]:
    """Return where consecutive rows lie: for each file its name, the number of its first row, and which rows it has."""
    pieces: Callable[[range], Iterable[tuple[str, int, slice]]] | None = getattr(data, "pieces", None)
    return [(data.name, rows.start, slice(0, len(rows)))] if pieces is None else pieces(rows)


def example_form(data: Dataset) -> Examples:
    """Return an example of the shapes and types of the first one, whose numbers are arbitrary.

    It is read only if the data set does not know its form.
    """
    form: Callable[[], Examples] | None = getattr(data, "example_form", None)
    return data.read(slice(0, 1)) if form is None else form()


def stated_scales(data: Dataset) -> dict[str, tuple[Numbers | None, Numbers | None]]:
    """Return scale and shift of each column that has any, as the data set says; reads no rows."""
    meaning: Meaning | None = getattr(data, "meaning", None)
    if meaning is None:  # a data set of the user's own
        found = {"inputs": (data.scale, getattr(data, "shift", None))}
    else:
        found = {column: (what.scale, what.shift) for column, what in meaning.items()}
    return {column: pair for column, pair in found.items() if pair != (None, None)}


def scalings_of(data: Dataset, standardized: Meaning | None = None) -> dict[str, Scaling]:
    """Return the map of each column of a data set whose numbers are not used as they are stored.

    Args:
        data: the data set.
        standardized: the meaning of columns whose numbers are used as deviations from a mean, by name.
    """
    stated, known = stated_scales(data), standardized or {}
    moments = {column: (what.mean, what.deviation) for column, what in known.items()}
    found = {
        column: Scaling.of(*stated.get(column, (None, None)), *moments.get(column, (None, None)))
        for column in {**stated, **moments}
    }
    return {column: scaling for column, scaling in found.items() if not scaling.is_identity}


def scaled_inputs(examples: Examples, scalings: Mapping[str, Scaling], dtype: Any, copy: bool = True) -> Arrays:
    """Return the inputs of some examples in the type and units of a model, by name if they have names.

    Args:
        examples: as they are stored.
        scalings: of their columns, by name.
        dtype: of the model.
        copy: whether they must be new arrays; else they may be the stored ones, for callers that do not write.
    """
    inputs = examples.inputs
    if not isinstance(inputs, dict):
        return scalings.get("inputs", Scaling()).apply(inputs, dtype, copy)
    return {name: scalings.get(f"inputs.{name}", Scaling()).apply(one, dtype, copy) for name, one in inputs.items()}


def check_columns(name: str, columns: Mapping[str, Any]) -> None:
    """Raise UserError unless all columns of a data set, given by name, are numbers with one row per example."""
    first = first_inputs(columns)
    rows = columns[first].shape[0] if columns[first].shape else 0
    for column, array in columns.items():
        if array.dtype.kind not in "buif":
            raise UserError(f"{name}: {column} must be numbers, but have type {array.dtype}")
        if not array.shape or array.shape[0] != rows:
            compared = f"; {first} have {rows} rows and {column}" if column != first else f", but {column}"
            found = array.shape[0] if array.shape else "none"
            raise UserError(f"{name}: every column needs one row per example{compared} have {found}")
        if 0 in array.shape[1:]:
            raise UserError(f"{name}: {column} have shape {array.shape}, so an example has no numbers")
    if rows == 0:
        raise UserError(f"{name}: has no examples")
    _check_owners(name, columns)
    for column in columns:
        if role_of(column) == "inputs":
            _check_inputs_shape(name, column, columns[column].shape)
    check_positions(name, columns)


def _check_owners(name: str, columns: Mapping[str, Any]) -> None:
    """Raise UserError for weights by the name of a target, or a mask by that of inputs, which the data has not."""
    for column in columns:
        role, _, own = column.partition(".")
        owner = {"weights": "targets", "mask": "inputs"}.get(role)
        others = [other.partition(".")[2] for other in columns if role_of(other) == owner]
        if own and others and own not in others:
            raise UserError(f"{name}: {column} are of no {owner}; {remedy(own, filter(None, others))}")


def _check_inputs_shape(name: str, column: str, shape: tuple[int, ...]) -> None:
    if len(shape) < 2:
        raise UserError(
            f"{name}: {column} must have at least two axes, examples and features, but have shape "
            f"{shape}; reshape one example to (1, features), or one feature to (examples, 1)"
        )
    needed = 4 * math.prod(shape[1:])  # in float32; a model is built with two examples
    if 2 * needed > (memory := machine_memory()):
        raise UserError(
            f"{name}: an example of {column} has shape {shape[1:]} and takes {needed:,} bytes, too many for the memory "
            f"of this machine ({memory:,}); is the first axis that of the examples?"
        )


class ArrayDataset:
    """Examples in memory, on every rank that has this object.

    Args:
        inputs: numbers (examples, ...).
        targets: (examples,) or (examples, ...), as the loss requires.
        weights: (examples,), or (examples, *positions) if an example has several losses; 0 leaves one out.
        scale: factor by which inputs are multiplied when they are used: a number, or one for each along the last axis;
            of several inputs, one for all, or a mapping from their names.
        name: name for messages.
        input_names: the names of the elements along the last axis of the inputs.
        classes: the name of each class number.
        shift: what is added to the inputs then, likewise.
        target_names: the names of the elements along the last axis of the targets.
        others: columns that no model sees, by name, such as groups that a split for validation keeps together.
        mask: which positions of the inputs hold data, (examples, *positions), 1 or 0; by default all do.

    Columns whose rows have unequal lengths are given as Ragged, and need no mask. Other data, such as that for
    validation, is brought into the order of these names.
    """

    def __init__(
        self,
        inputs: Any,
        targets: Any,
        weights: Any = None,
        scale: Any = None,
        name: str = "the arrays",
        input_names: Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
        shift: Any = None,
        target_names: Sequence[str] | None = None,
        others: Mapping[str, Any] | None = None,
        mask: Any = None,
    ):
        self._others = {column: np.asarray(values) for column, values in (others or {}).items()}
        given = by_name("inputs", inputs) | by_name("targets", targets) | by_name("weights", weights)
        given |= by_name("mask", mask)
        self._columns = {column: _as_column(name, column, values) for column, values in given.items()}
        self.name = name
        check_columns(name, self._columns)
        self.input_shape: Shapes = input_shapes(self._columns)
        meaning = {
            column: ColumnMeaning(kind_of(values.dtype))
            for column, values in self._columns.items()
            if role_of(column) in ("inputs", "targets")
        }
        for column in [column for column in meaning if role_of(column) == "inputs"]:
            stated = stated_for(name, column, self._columns[column].shape, scale, shift)
            meaning[column] = meaning[column]._replace(scale=stated[0], shift=stated[1])
        self.scale = meaning[first_inputs(meaning)].scale
        for key, column, kind, names in (
            ("input_names", "inputs", "names", input_names),
            ("target_names", "targets", "names", target_names),
            ("classes", "targets", "classes", classes),
        ):
            if names is not None:
                found = _texts(f"{name}: {key}", names)
                found = check_names(f"{name}: {column}", kind, found, self._columns[column].shape)
                changed: dict[str, Any] = {kind: found}
                meaning[column] = meaning[column]._replace(**changed)
        self.meaning: Meaning = meaning

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))

    def read(self, rows: Rows) -> Examples:
        """Return rows."""
        found = {name: c.read(rows) if isinstance(c, Ragged) else c[rows] for name, c in self._columns.items()}
        return Examples(with_masks(self._columns, found, rows))

    def with_inputs(self, inputs: Array) -> ArrayDataset:
        """Return a data set of inputs alone, of the type and shape of these, so that they need no check."""
        other = copy.copy(self)
        vars(other)["_columns"] = {"inputs": inputs}
        return other

    def read_column(self, name: str) -> Array:
        """Return a column, of any kind; raise UserError if there is none of this name."""
        columns = {**self._columns, **self._others}
        if name not in columns:
            raise unknown(f"column of {self.name}", name, columns)
        column = columns[name]
        return column.read(slice(0, None)) if isinstance(column, Ragged) else column


def _as_column(name: str, column: str, values: Any) -> Array | Ragged:
    """Return a column as an array, or as it is if it is ragged."""
    if isinstance(values, Ragged):
        return values
    try:
        found = unmasked(f"{name}: {column}", values)
    except ValueError as error:
        raise UserError(
            f"{name}: {column} are no array ({error}); give rows of unequal length as dbp.data.Ragged.of(rows)"
        ) from None
    is_mask = role_of(column) == "mask" and found.ndim and found.dtype.kind in "buif"
    return as_mask(name, found, np.arange(len(found))) if is_mask else found


def _texts(what: str, given: Any) -> tuple[str, ...]:
    """Return names as a tuple; raise UserError if they are no list of texts."""
    try:
        return texts(given)
    except (TypeError, ValueError):
        raise UserError(f"{what} must be a list of texts, but is {brief(given)}") from None
