"""The second pass over a table: its columns become numbers, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dbp.convert.coding import CLASSES, BadCellError, ColumnCoding, TableCoding
from dbp.convert.content import Block
from dbp.convert.kept import kept_columns, kept_names
from dbp.convert.roles import Roles, Table, TableBlock, TableOptions, used_columns
from dbp.convert.scan import encoded
from dbp.data.row_names import IDS
from dbp.errors import UserError
from dbp.files import reading_from
from dbp.types import Array


class Plan(NamedTuple):
    """All that decides what a table becomes.

    Args:
        table: the table.
        options: what the user says of it.
        roles: which columns become what.
        coding: how they become numbers.
        state: that of the file in the first pass.
        whole: whether all targets are integers.
        id_width: bytes of the longest name of an example.
        kept_types: those of the columns that are kept beside the inputs, by name.
    """

    table: Table
    options: TableOptions
    roles: Roles
    coding: TableCoding
    state: tuple[int, int]
    whole: bool
    id_width: int
    kept_types: dict[str, str]


def state_of(table: Table) -> tuple[int, int]:
    """Return what tells whether a table has changed."""
    with reading_from(table.path):
        found = table.path.stat()
    return found.st_size, found.st_mtime_ns


def encode_column(table: Table, coding: ColumnCoding, block: TableBlock, index: int, options: TableOptions) -> Array:
    """Return a column of a block as numbers (rows, width), NaN where missing; raise UserError, naming the line."""
    try:
        return coding.encode(block.columns[index], options.empty)
    except BadCellError as error:
        what = "the target " if coding.kind == CLASSES else ""
        raise UserError(f"{table.path}, {table.row_word} {block.lines[error.row]}: {what}{error}") from None


def encoded_blocks(plan: Plan) -> Iterator[Block]:
    """Yield the coded rows of a table; raise UserError if it has changed since its first pass."""
    for block in plan.table.blocks(used_columns(plan.roles)):
        numbers = _numbers(plan, block)
        kept: slice | Array = slice(None)
        if plan.options.missing == "drop":
            kept = ~np.logical_or.reduce([np.isnan(values).any(axis=1) for values in numbers.values()])
        coded = {role: values[kept] for role, values in numbers.items()}
        for role in coded:
            if role != "inputs" and coded[role].shape[1] == 1:
                coded[role] = coded[role][:, 0]
        if plan.whole:
            coded["targets"] = coded["targets"].astype(np.int64)
        for index in plan.roles[IDS]:
            coded[IDS] = np.array(encoded(block.columns[index]), f"S{plan.id_width}")[kept]
        names = kept_names(plan.table, plan.roles)
        yield coded | {name: values[kept] for name, values in kept_columns(block, names, plan.kept_types).items()}
    if state_of(plan.table) != plan.state:
        raise UserError(f"{plan.table.path} was changed while it was read; convert it again")


def _numbers(plan: Plan, block: TableBlock) -> dict[str, Array]:
    """Return the columns of inputs, targets and weights of a block, NaN where a value is missing."""
    found = {}
    for role, columns in plan.coding.columns.items():
        if role != IDS:
            pairs = zip(columns, plan.roles[role], strict=True)
            parts = [one.filled(encode_column(plan.table, one, block, at, plan.options)) for one, at in pairs]
            found[role] = np.hstack(parts)
    return found
