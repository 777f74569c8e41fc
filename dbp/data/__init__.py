"""Data sets, their meaning, checks, and converters to HDF5, which is imported when it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbp import lazy
from dbp.data.aligned import Aligned, aligned, meaning_of
from dbp.data.check import BLOCK_BYTES, CheckExamples, block_count, check_all, check_blocks, combined, sample_digest
from dbp.data.columns import ColumnNames
from dbp.data.dataset import (
    ArrayDataset,
    Dataset,
    Examples,
    Rows,
    role_of,
    scaled_inputs,
    scalings_of,
)
from dbp.data.file_names import data_path, expand, with_path
from dbp.data.identity import identity_of, is_checked_at_start, is_same_but_written_since, same_files, stored_bytes
from dbp.data.joined import JoinedLayout
from dbp.data.mapped import FileDataset, FileLayout, mapped
from dbp.data.meaning import FLOATS, INTEGERS, ColumnMeaning, Meaning, meaning_differences, meaning_text, parse_meaning
from dbp.data.placeholders import (
    counting_rows,
    example_masks,
    weighted_by_positions,
    without_fill,
    without_placeholders,
)
from dbp.data.ragged import Ragged, positions_of
from dbp.data.row_check import RowCheck
from dbp.data.scaling import Numbers, Scaling, check_scale, check_shift
from dbp.data.source import FileSource, layout_of

if TYPE_CHECKING:
    from dbp.data.csv_output import CsvFile
    from dbp.data.hdf5 import HDF5Dataset
    from dbp.data.npz import Archive
    from dbp.data.output import OutputFile

_HOMES = {"CsvFile": "csv_output", "Archive": "npz", "HDF5Dataset": "hdf5", "OutputFile": "output"}

__all__ = [
    "BLOCK_BYTES",
    "FLOATS",
    "INTEGERS",
    "Aligned",
    "Archive",
    "ArrayDataset",
    "CheckExamples",
    "ColumnMeaning",
    "ColumnNames",
    "CsvFile",
    "Dataset",
    "Examples",
    "FileDataset",
    "FileLayout",
    "FileSource",
    "HDF5Dataset",
    "JoinedLayout",
    "Meaning",
    "Numbers",
    "OutputFile",
    "Ragged",
    "RowCheck",
    "Rows",
    "Scaling",
    "aligned",
    "block_count",
    "check_all",
    "check_blocks",
    "check_scale",
    "check_shift",
    "combined",
    "counting_rows",
    "data_path",
    "example_masks",
    "expand",
    "identity_of",
    "is_checked_at_start",
    "is_same_but_written_since",
    "layout_of",
    "mapped",
    "meaning_differences",
    "meaning_of",
    "meaning_text",
    "parse_meaning",
    "positions_of",
    "role_of",
    "same_files",
    "sample_digest",
    "scaled_inputs",
    "scalings_of",
    "stored_bytes",
    "weighted_by_positions",
    "with_path",
    "without_fill",
    "without_placeholders",
]


def __dir__() -> list[str]:
    return sorted(__all__)


if not TYPE_CHECKING:  # else type checkers would take any name

    def __getattr__(name: str) -> Any:
        return lazy.attribute(__name__, _HOMES, name)
