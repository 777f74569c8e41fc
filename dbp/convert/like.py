"""Read from a data file how the table was coded from which it was converted."""

from __future__ import annotations

from pathlib import Path

from dbp.convert.coding import TableCoding
from dbp.data.completeness import reading_hdf5
from dbp.data.hdf5 import open_hdf5
from dbp.errors import UserError


def read_coding(name: str) -> TableCoding:
    """Return the coding; raise UserError if a file has none, as it was not converted from a table."""
    with open_hdf5(Path(name)) as file:
        with reading_hdf5(f"{name}: the attribute table"):
            text = file.attrs.get("table")
        if not isinstance(text, str):
            raise UserError(f"{name} was not converted from a table, so that no other can be converted like it")
    try:
        return TableCoding.from_json(text)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
