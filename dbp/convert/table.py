"""Convert a table: a first pass learns how to code its columns, a second one codes them block by block.

Formats of tables differ in how cells are read; what they mean is decided here, the same for all formats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dbp.convert.choice import Chooser, mean_of
from dbp.convert.coding import CLASSES, TEXTS, ColumnCoding, TableCoding
from dbp.convert.content import Content
from dbp.convert.encoding import Plan, encode_column, encoded_blocks, state_of
from dbp.convert.kept import KeptScan, check_kept, kept_names
from dbp.convert.progress import with_progress
from dbp.convert.roles import KEPT, Roles, Table, TableOptions, chosen_columns, used_columns
from dbp.convert.scan import NUMBERS, WORDS, ColumnScan, NameScan, TextScan
from dbp.data.meaning import listed
from dbp.data.row_names import IDS
from dbp.errors import UserError
from dbp.files import check_fits_memory
from dbp.text import count_text

MEDIAN_BYTES = 1 << 28  # of columns of which the median is found at a time
Scans = Mapping[int, ColumnScan | TextScan]  # by the number of the column


def from_table(table: Table, options: TableOptions) -> Content:
    """Return the data set in a table; columns keep their names, and the file gets the coding, for `like`.

    Raises:
        UserError: the table is damaged, has no rows, or its cells do not fit together; names the line.
    """
    state = state_of(table)
    roles = chosen_columns(table, options)
    check_kept(table, roles)
    scans, rows, complete = _scanned(table, options, roles)
    if not rows:
        raise UserError(f"{table.path} has no rows of values")
    coding = _coding(table, options, roles, scans)
    drops = options.missing == "drop"
    if not drops:
        _check_missing(table, options, coding, roles, scans)
    if options.missing == "median" and options.like is None:
        coding = _with_medians(table, options, roles, coding)
    if not (count := complete if drops else rows):
        raise UserError(f"{table.path}: in every row a value is missing, so that --missing drop leaves none")
    texts = {index: scan for index, scan in scans.items() if isinstance(scan, TextScan)}
    widths = [texts[index].width for index in roles[IDS]]
    kept = {index: scan.dtype for index, scan in scans.items() if isinstance(scan, KeptScan)}
    kept_types = {name: kept[index] for name, index in kept_names(table, roles).items()}
    plan = Plan(
        table, options, roles, coding, state, _is_whole(roles, coding, scans), max(widths, default=1), kept_types
    )
    notes = _notes(table, options, roles, coding, scans, rows - count)
    files = [table.path, *([Path(options.like_name)] if options.like_name else [])]
    return Content(encoded_blocks(plan), count, _attributes(table, coding), notes, files)


# --- the first pass -----------------------------------------------------------------------------------


def _scanned(table: Table, options: TableOptions, roles: Roles) -> tuple[Scans, int, int]:
    """Return what is known of the columns, and the number of rows, and of those in which no value is missing."""
    chooser = Chooser(table, options, roles)
    scans = {index: chooser.scan(index) for index in used_columns(roles)}
    rows = complete = 0
    blocks = table.blocks(list(scans))
    for block in with_progress(blocks, lambda block: len(block.lines), f"reading {table.path.name}"):
        empty = [scan.add(block.lines, block.columns[index]) for index, scan in scans.items()]
        rows += len(block.lines)
        found = [one for one in empty if one is not None]
        complete += len(block.lines) - (int(np.logical_or.reduce(found).sum()) if found else 0)
    return scans, rows, complete


def _coding(table: Table, options: TableOptions, roles: Roles, scans: Scans) -> TableCoding:
    if options.like is not None:
        found = {role: options.like.columns.get(role, ())[: len(indices)] for role, indices in roles.items()}
        if roles[IDS]:
            name = None if table.names is None else table.names[roles[IDS][0]]
            found[IDS] = (ColumnCoding(name, roles[IDS][0], TEXTS),)
        given = options.missing not in (None, "median")
        columns = {
            role: [_with_rule(c, options) if given and role == "inputs" else c for c in cs]
            for role, cs in found.items()
        }
    else:
        chooser = Chooser(table, options, roles)
        columns = {
            role: [chooser.coding(index, scans[index]) for index in indices]
            for role, indices in roles.items()
            if role != KEPT
        }
        columns = {
            role: [replace(c, mean=mean_of(c, scans[index])) for c, index in zip(cs, roles[role], strict=True)]
            for role, cs in columns.items()
        }
        columns["inputs"] = [_with_rule(one, options) for one in columns["inputs"]]
    _check_weights(table, columns["weights"])
    missing_texts = sorted({*options.missing_texts, *(options.like.missing_texts if options.like else ())})
    return TableCoding({role: tuple(found) for role, found in columns.items() if found}, tuple(missing_texts))


def _check_weights(table: Table, columns: Sequence[ColumnCoding]) -> None:
    for one in columns:
        if one.kind != NUMBERS:
            raise UserError(f"{table.path}: the weights in column {one.label!r} must be numbers")


def _with_rule(coding: ColumnCoding, options: TableOptions) -> ColumnCoding:
    """Return the coding of inputs with what stands for missing values, by the rule of the user."""
    rule = options.missing
    if rule in (None, "error", "drop"):
        return replace(coding, fill=None)
    if coding.kind == WORDS:
        return replace(coding, fill=0.0)
    return replace(coding, fill=coding.mean if rule in ("mean", "median") else float(rule or 0))


def _check_missing(table: Table, options: TableOptions, coding: TableCoding, roles: Roles, scans: Scans) -> None:
    """Raise UserError if values are missing for which nothing stands."""
    for role, columns in coding.columns.items():
        pairs = list(zip(columns, roles[role], strict=True))
        lost = [(one.label, scans[index]) for one, index in pairs if scans[index].missing and one.fill is None]
        if not lost:
            continue
        first, total = min(scan.first_missing for _, scan in lost), sum(scan.missing for _, scan in lost)
        where = f"{table.path}, {table.row_word} {first}"
        if role != "inputs":
            more = f" (and {total - 1:,} more)" if total > 1 else ""
            what = {"targets": "target", "weights": "weight"}[role]
            what += f" {lost[0][0]!r}" * (len(columns) > 1)
            raise UserError(f"{where}: the {what} is missing{more}; write it, or drop such rows with --missing drop")
        counts = listed([f"{label} {scan.missing:,}" for label, scan in lost])
        rules = "mean, median or a number" if options.like is None else "mean or a number"
        raise UserError(
            f"{where}: a value is missing, the first of {total:,} (in {counts}); fill them with --missing {rules}, "
            "leave out their rows with --missing drop, or their columns with --drop"
        )


def _with_medians(table: Table, options: TableOptions, roles: Roles, coding: TableCoding) -> TableCoding:
    """Return the coding with the medians of all inputs that are numbers, found for some columns at a time."""
    inputs = list(coding.columns["inputs"])
    numeric = [(i, index) for i, index in enumerate(roles["inputs"]) if inputs[i].kind != WORDS]
    rows = sum(len(block.lines) for block in table.blocks(roles["inputs"][:1]))
    check_fits_memory(8 * rows, f"{table.path}: a column of {rows:,} numbers")
    most = max(1, MEDIAN_BYTES // (8 * rows))
    for start in range(0, len(numeric), most):
        group = numeric[start : start + most]
        values = np.empty((len(group), rows))
        done = 0
        for block in table.blocks([index for _, index in group]):
            for row, (i, index) in enumerate(group):
                coded = encode_column(table, inputs[i], block, index, options)
                values[row, done : done + len(coded)] = coded[:, 0]
            done += len(block.lines)
        for row, (i, _) in enumerate(group):
            inputs[i] = replace(inputs[i], fill=float(np.median(values[row][~np.isnan(values[row])])))
    return replace(coding, columns={**coding.columns, "inputs": tuple(inputs)})


# --- what the file gets -------------------------------------------------------------------------------


def _is_whole(roles: Roles, coding: TableCoding, scans: Scans) -> bool:
    """Return True if all targets are integers."""
    pairs = list(zip(coding.columns.get("targets", ()), roles["targets"], strict=True))
    return bool(pairs) and all(one.kind == CLASSES or (one.kind == NUMBERS and scans[p].is_whole) for one, p in pairs)


def _attributes(table: Table, coding: TableCoding) -> dict[str, dict[str, Any]]:
    attributes: dict[str, dict[str, Any]] = {"/": {"table": coding.to_json()}}
    for role in ("inputs", "targets"):
        if not (columns := coding.columns.get(role)):
            continue
        found = attributes[role] = {}
        if table.names is not None or any(one.kind == WORDS for one in columns):
            found["names"] = [name for one in columns for name in one.column_names]
        units = [unit for one in columns for unit in one.units]
        if any(units):
            found["units"] = units
        if role == "targets":
            found["classes"] = columns[0].words if columns[0].kind == CLASSES else ()
    return attributes


def _notes(
    table: Table, options: TableOptions, roles: Roles, coding: TableCoding, scans: Scans, dropped: int
) -> list[str]:
    """Return what the user should know of the coding, a line each."""
    notes = [one.note for role in ("inputs", "targets") for one in coding.columns.get(role, ()) if one.note]
    for one, index in zip(coding.columns["inputs"], roles["inputs"], strict=True):
        if one.fill is not None and scans[index].missing:
            filled = "zeros" if one.kind == WORDS else f"{one.fill:.6g}"
            notes.append(f"{one.label}: {scans[index].missing:,} missing, filled with {filled}")
    for index, scan in scans.items():
        if isinstance(scan, (NameScan, KeptScan)):
            notes += scan.notes("" if table.names is None else table.names[index], table.row_word)
    for one in coding.columns.get("targets", ()):
        if one.kind == CLASSES and len(one.words) == 1 and options.like is None:
            notes.append(
                f"{one.label}: all targets are of one class, {one.words[0]!r}, so that there is nothing to learn"
            )
    if dropped:
        notes.append(f"{count_text(dropped, 'row')} left out, as a value is missing")
    if options.like is not None and table.names is not None:
        used = used_columns(roles)
        if rest := [name for index, name in enumerate(table.names) if index not in used]:
            notes.append(f"left out, as {options.like_name} does not have them: {listed(rest)}")
    return notes
