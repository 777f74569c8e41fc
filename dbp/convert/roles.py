"""Which columns of a table become inputs, targets and weights, as options say it or an earlier data file has it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from dbp.convert.coding import TableCoding
from dbp.convert.scan import Cells
from dbp.convert.values import MISSING
from dbp.data.meaning import listed
from dbp.data.row_names import IDS
from dbp.errors import UserError

LAST = "-1"  # the number of the last column
KEPT = "kept"  # the role of columns that are neither inputs nor anything else that a model sees
RULES = ("error", "mean", "median", "drop")  # for missing values, besides a number


class TableBlock(NamedTuple):
    """Some rows of a table: the line of each, and the cells of columns by their numbers."""

    lines: Sequence[int]
    columns: Mapping[int, Cells]


class Table(Protocol):
    """A table in a file, whose rows can be read several times.

    Args:
        path: the file.
        names: of its columns; None if they have none.
        width: the number of its columns.
        shown: what it has for columns, as messages say it: "its first line has a, b".
        row_word: what the number of a row counts, such as "line".
        is_text: whether all its cells are texts, so that options say how numbers and dates are written in it.
    """

    path: Path
    names: Sequence[str] | None
    width: int
    shown: str
    row_word: str
    is_text: bool

    def blocks(self, indices: Sequence[int]) -> Iterator[TableBlock]:
        """Yield all rows in their order, with the columns of the given numbers."""
        ...


@dataclass(frozen=True)
class TableOptions:
    """What the user says of a table. Columns are given by name, or by number from 0, negative from the end.

    Args:
        targets: columns of targets; none if it has none.
        columns: those of inputs in their order; by default all that are nothing else.
        drop: columns to leave out.
        weights: the column of example weights.
        ids: the column of the examples' names, which predictions repeat.
        keep: columns that become data sets of their own name beside the inputs, such as groups.
        words: columns of which each word becomes a column of 0 and 1, though there are many words, or numbers.
        orders: for columns of words that have an order, the words in it.
        dates: for columns of dates that are written in another way than usual, the way in the letters of strptime.
        classes: the names of the classes in the order of their numbers.
        missing: one of RULES, or a number that stands for missing values; None for the rule of `like`, else "error".
        missing_texts: texts that say that a value is missing, besides the usual ones.
        like: the coding of an earlier data file, which is used again.
        like_name: the name of that file.
    """

    targets: Sequence[str] = (LAST,)
    columns: Sequence[str] | None = None
    drop: Sequence[str] = ()
    weights: str | None = None
    ids: str | None = None
    keep: Sequence[str] = ()
    words: Sequence[str] = ()
    orders: Mapping[str, Sequence[str]] = field(default_factory=dict)
    dates: Mapping[str, str] = field(default_factory=dict)
    classes: Sequence[str] | None = None
    missing: str | float | None = None
    missing_texts: Sequence[str] = ()
    like: TableCoding | None = None
    like_name: str = ""

    @property
    def mentioned(self) -> list[str]:
        """Return all columns that the user names."""
        found = [*self.targets, *(self.columns or ()), *self.drop, *self.keep, *self.words, *self.orders, *self.dates]
        return [*found, *(name for name in (self.weights, self.ids) if name is not None)]

    @property
    def empty(self) -> Collection[str]:
        """Return the texts that say that a value is missing."""
        return MISSING | {*self.missing_texts, *(self.like.missing_texts if self.like else ())}


Roles = dict[str, list[int]]  # numbers of the columns of a table that become inputs, targets, weights and names of rows


def used_columns(roles: Roles) -> list[int]:
    """Return the numbers of all columns that become something."""
    return [index for indices in roles.values() for index in indices]


def is_index(name: str, width: int) -> bool:
    """Return True if a name is the number of a column, from 0, or negative from the end."""
    return re.fullmatch("-?[0-9]{1,9}", name) is not None and -width <= int(name) < width


def index_of(table: Table, name: str) -> int:
    """Return the number of a column; raise UserError unless there is one such column."""
    if is_index(name, table.width):
        return int(name) % table.width
    names = list(table.names or ())
    if name not in names:
        raise UserError(f"{table.path} has no column {name!r}; {table.shown}")
    if names.count(name) > 1:
        raise UserError(
            f"{table.path} has {names.count(name)} columns {name!r}; rename them, each to a name of its own"
        )
    return names.index(name)


def chosen_columns(table: Table, options: TableOptions) -> Roles:
    """Return which columns become what; raise UserError if one is missing, or none is left for inputs."""
    if options.like is not None:
        return _columns_like(table, options.like, options)
    if table.width < 2 and options.targets:
        raise UserError(f"{table.path} needs at least two columns, inputs and a target; or say --no-target")
    targets = [index_of(table, name) for name in options.targets]
    weights = [] if options.weights is None else [index_of(table, options.weights)]
    ids = [] if options.ids is None else [index_of(table, options.ids)]
    dropped = {index_of(table, name) for name in options.drop}
    kept = [index_of(table, name) for name in options.keep]
    if options.columns is None:
        inputs = [index for index in range(table.width) if index not in {*targets, *weights, *ids, *dropped, *kept}]
    else:
        inputs = [index_of(table, name) for name in options.columns]
    for indices, others, what in (
        (kept, {*targets, *weights, *ids, *dropped}, "columns to keep"),
        (targets, {*weights, *ids, *dropped}, "targets"),
        (inputs, {*targets, *weights, *ids, *dropped, *kept}, "inputs"),
    ):
        if twice := [index for index in indices if index in others or indices.count(index) > 1]:
            name = table.names[twice[0]] if table.names else twice[0]
            raise UserError(
                f"{table.path}: column {name!r} cannot be one of the {what} and something else; name it once"
            )
    if not inputs:
        raise UserError(f"{table.path}: no column is left for inputs; name fewer with --target and --drop")
    found = {"inputs": inputs, "targets": targets, "weights": weights, IDS: ids, KEPT: kept}
    _check_names(table, used_columns(found))
    return found


def _check_names(table: Table, used: Sequence[int]) -> None:
    """Raise UserError if a column that is used has the name of another one."""
    names = list(table.names or ())
    for name in [names[index] for index in used] if names else ():
        if names.count(name) > 1:
            indices = [index for index, other in enumerate(names) if other == name]
            raise UserError(
                f"{table.path} has {len(indices)} columns {name!r}, but each needs a name of its own; rename them, or "
                f"leave them out with --drop {','.join(map(str, indices))}"
            )


def _columns_like(table: Table, coding: TableCoding, options: TableOptions) -> Roles:
    """Return the columns that an earlier data file has, in its order."""
    wanted = {role: coding.columns.get(role, ()) for role in ("inputs", "targets", "weights")}
    ids = [] if options.ids is None else [index_of(table, options.ids)]
    for one in coding.columns.get(IDS, ()) if options.ids is None else ():
        ids += [index for index, name in enumerate(table.names or ()) if name == one.name][:1]
    kept = [index_of(table, name) for name in options.keep]
    if not options.targets:
        wanted["targets"] = wanted["weights"] = ()
    every = [one for columns in wanted.values() for one in columns]
    if not coding.has_names:
        if not options.targets and table.width == len(wanted["inputs"]):
            return {"inputs": list(range(table.width)), "targets": [], "weights": [], IDS: ids, KEPT: kept}
        lost = [one.label for one in every if one.place >= table.width]
        found: Roles = {role: [one.place for one in columns] for role, columns in wanted.items()}
    else:
        names = list(table.names or ())
        lost = [one.label for one in every if one.label not in names]
        _check_names(table, [names.index(one.label) for one in every if one.label in names])
        found = {role: [names.index(c.label) for c in cs if c.label in names] for role, cs in wanted.items()}
    if lost:
        targets = [one.label for one in wanted["targets"] if one.label in lost]
        remedy = "say --no-target if the targets are not known" if lost == targets else "add them, or name them so"
        raise UserError(
            f"{table.path} must have each column of {options.like_name}, but lacks {listed(lost)}; {table.shown}: "
            f"{remedy}"
        )
    return {**found, IDS: ids, KEPT: kept}
