"""Predictions as a table in CSV, one row for each example."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from dbp.data.output import Attributes, OutputFile
from dbp.data.row_names import SINGULAR
from dbp.errors import UserError
from dbp.files import writing_to
from dbp.named_arrays import all_of
from dbp.types import Array, Shapes

LABELS = {"labels": "label", "classes": "class"}  # what says the class, the best first, with the name of a column
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet computes begins with one of them
VALUES = {"probabilities": "probability", "outputs": "output"}  # the numbers to write, the best first, likewise


class CsvFile(OutputFile):
    """A CSV file with a line of names and a row for each example; see OutputFile.

    A row has the name of the example, such as its file, or its row in the data; the label of its class, or
    the number of it; and probabilities, or outputs. What is not finite, and the class of such a row, is empty. Texts
    that a spreadsheet would take for formulas begin with an apostrophe.
    """

    def check_shape(self, output_shape: Shapes) -> None:
        """Raise UserError if an example has more outputs than a row can name; of several by name, if one has."""
        for shape in all_of(output_shape):
            if len(shape) > 1:
                raise UserError(
                    f"{self.path}: a table has one row per example, but the model's outputs have shape {shape}; name "
                    "an HDF5 file, such as predictions.h5"
                )

    def write_rows(self, columns: Mapping[str, Array], start: int, count: int, attributes: Attributes) -> None:  # noqa: ARG002
        """Write rows of predictions, from the row `start` on; names are in the attributes of the columns.

        Of several outputs, whose columns have names such as outputs/energy, one follows the other.
        """
        assert self._file is not None
        text = io.StringIO(newline="")
        table = csv.writer(text, lineterminator="\n")
        groups = dict.fromkeys(column.partition("/")[2] for column in columns if column.partition("/")[0] in VALUES)
        label_of_rows = next((column for column in SINGULAR if column in columns), None)
        of_outputs = [_OutputColumns.of(name, columns, attributes) for name in groups]
        if start == 0:
            first = "row" if label_of_rows is None else SINGULAR[label_of_rows]
            table.writerow([first, *(_text(name) for output in of_outputs for name in output.names)])
        numbers = np.arange(start, start + len(of_outputs[0].parts[-1]))
        firsts = numbers if label_of_rows is None else columns[label_of_rows]
        parts = [firsts, *(part for output in of_outputs for part in output.parts)]
        table.writerows(zip(*(cells for part in parts for cells in _cells(part)), strict=True))
        with writing_to(self.path):
            self._file.write(text.getvalue().encode(errors="surrogateescape"))


class _OutputColumns(NamedTuple):
    """The columns of a table that are of one output.

    Args:
        names: of its columns.
        parts: arrays of their values, each with one or several of the columns.
    """

    names: list[str]
    parts: list[Array]

    @classmethod
    def of(cls, output: str, columns: Mapping[str, Array], attributes: Attributes) -> _OutputColumns:
        """Return the columns of an output, whose names begin with its name; "" for no name."""
        end = f"/{output}" if output else ""
        known = {column.removesuffix(end): values for column, values in columns.items() if column.endswith(end)}
        label = next((column for column in LABELS if column in known), None)
        values = next(column for column in VALUES if column in known)
        names = attributes.get(f"{values}{end}", {}).get("names")
        of_values = _value_names(values, known, names)
        if output:
            of_values = [output] if len(of_values) == 1 else [f"{output} {name}" for name in of_values]
        of_labels = [f"{output} {name}" if output else name for name in _label_names(label, known, names)]
        return cls([*of_labels, *of_values], [known[column] for column in (label, values) if column is not None])


def _label_names(label: str | None, columns: Mapping[str, Array], names: list[str] | None) -> list[str]:
    """Return the names of the columns of classes: one, or one for each of several targets."""
    if label is None:
        return []
    width = _width(columns[label])
    targets = names if names and len(names) == width else range(width)
    return [LABELS[label]] if width == 1 else [f"{LABELS[label]} of {one}" for one in targets]


def _value_names(values: str, columns: Mapping[str, Array], names: list[str] | None) -> list[str]:
    """Return the names of the columns of numbers: those of classes or targets, or numbers from 0."""
    width = _width(columns[values])
    if names and len(names) == width:
        return list(names)
    return [VALUES[values]] if width == 1 else [f"{VALUES[values]}_{number}" for number in range(width)]


def _width(column: Array) -> int:
    return column.shape[1] if column.ndim > 1 else 1


def _text(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: with an apostrophe before it if it begins like one."""
    if not text.startswith(FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text  # a number, such as -1


def _cells(column: Array) -> Iterator[list[str]]:
    """Yield the texts of a column of an array; of numbers the shortest that say the same in their type."""
    for values in column.reshape(len(column), -1).T:
        if values.dtype.kind == "S":
            yield [_text(value.decode(errors="surrogateescape")) for value in values.tolist()]
        elif values.dtype.kind == "f":
            yield [str(value) if np.isfinite(value) else "" for value in values]
        else:
            yield [str(value) if value >= 0 else "" for value in values.tolist()]
