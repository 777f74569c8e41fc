"""Read Parquet files, as tables, in parts of their row groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dbp.convert.content import Content
from dbp.convert.roles import TableBlock, TableOptions
from dbp.convert.scan import Cells
from dbp.convert.table import from_table
from dbp.data.meaning import listed
from dbp.data.parquet import open_parquet, reading_parquet
from dbp.errors import UserError
from dbp.library import library

BATCH_VALUES = 1 << 18  # that are read at a time


def from_parquet(path: Path, options: TableOptions) -> Content:
    """Return the data set in a Parquet file; raise UserError if it is missing, damaged or does not fit."""
    return from_table(ParquetTable(path), options)


class ParquetTable:
    """A table in a Parquet file.

    Args:
        path: the file.

    Raises:
        UserError: it is missing or damaged, or pyarrow is not installed.
    """

    row_word, is_text = "row", False

    def __init__(self, path: Path):
        self.path = path
        self._arrow = library("pyarrow", "a Parquet file")
        with open_parquet(path) as file, reading_parquet(path):
            schema = file.schema_arrow
        self.names: Sequence[str] | None = list(schema.names)
        self.width, self.shown = len(schema.names), f"it has {listed(schema.names)}"

    def blocks(self, indices: Sequence[int]) -> Iterator[TableBlock]:
        """Yield consecutive rows of the columns of the given numbers; rows count from 0."""
        assert self.names is not None
        names = [self.names[index] for index in indices]
        if len(set(names)) < len(names) or any(self.names.count(name) > 1 for name in names):
            raise UserError(f"{self.path}: columns must have different names, but are {listed(self.names)}")
        size = max(1, BATCH_VALUES // max(1, len(names)))
        with open_parquet(self.path) as file:
            batches = file.iter_batches(size, columns=names)
            start = 0
            while True:
                with reading_parquet(self.path):
                    if (batch := next(batches, None)) is None:
                        return
                    columns = {
                        at: self._cells(name, batch.column(name)) for at, name in zip(indices, names, strict=True)
                    }
                if batch.num_rows:
                    yield TableBlock(range(start, start + batch.num_rows), columns)
                start += batch.num_rows

    def _cells(self, name: str, column: Any) -> Cells:
        """Return a column as numbers, dates or texts."""
        types, kind = self._arrow.types, column.type
        if types.is_dictionary(kind):
            column, kind = column.dictionary_decode(), kind.value_type
        if types.is_date(kind) or types.is_timestamp(kind):
            moments = column.cast(self._arrow.timestamp("us"), safe=False)
            return np.asarray(moments.to_numpy(zero_copy_only=False)).astype("datetime64[us]")
        if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
            return np.asarray(column.cast(self._arrow.float64(), safe=False).to_numpy(zero_copy_only=False))
        if not (types.is_string(kind) or types.is_large_string(kind) or types.is_null(kind)):
            raise UserError(
                f"{self.path}: column {name!r} has values of type {kind}, but needs numbers, words or dates: --drop it"
            )
        texts = ["" if text is None else text.strip() for text in column.to_pylist()]
        if any("\0" in text for text in texts):
            raise UserError(f"{self.path}: column {name!r} has words with a zero byte")
        return texts
