"""Parquet files, which are tables as those of text are."""

import datetime
import io
import sys
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbp.convert import parquet
from dbp.convert.parquet import from_parquet
from dbp.convert.roles import TableOptions
from dbp.errors import UserError
from tests.convert.files import changed, converted, write

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
DAY = datetime.date(2019, 3, 1)
COLUMNS = {
    "id": pa.array(range(6)),
    "age": pa.array([20, None, 40, 33, 7, 7.5]),
    "color": pa.array(["red", "blue", None, "red", "red", "blue"]).dictionary_encode(),
    "seen": pa.array([DAY, None, DAY + datetime.timedelta(31), DAY, DAY, DAY]),
    "at": pa.array([datetime.datetime(2019, 3, 1, 12)] * 5 + [None], pa.timestamp("ns")),
    "well": pa.array([True, False, None, True, True, True]),
    "grade": pa.array([1, 2, 3, 3, 2, 1], pa.int8()),
    "list": pa.array([[1], [2], [], None, [1], [1]]),
    "y": pa.array(["a", "b", "a", "b", "a", "b"]),
}


def save(folder, row_group_size=2, **columns):
    """Write a table and return its path."""
    pq.write_table(pa.table(columns), folder / "t.parquet", row_group_size=row_group_size)
    return folder / "t.parquet"


def test_columns_of_all_types(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "BATCH_VALUES", 20)
    options = TableOptions(drop=["id", "list"], missing="mean", words=["grade"])
    rows, meaning = converted(tmp_path, from_parquet(save(tmp_path, **COLUMNS), options))
    names = ("age", "color=blue", "color=red", "seen", "at", "well", "grade=1", "grade=2", "grade=3")
    assert meaning["inputs"].names == names
    expected = [
        [20, 0, 1, 0, 0.5, 1, 1, 0, 0],
        [21.5, 1, 0, 6.2, 0.5, 0, 0, 1, 0],
        [40, 0, 0, 31, 0.5, 0.8, 0, 0, 1],
        [33, 0, 1, 0, 0.5, 1, 0, 0, 1],
        [7, 0, 1, 0, 0.5, 1, 0, 1, 0],
        [7.5, 1, 0, 0, 0.5, 1, 1, 0, 0],
    ]
    np.testing.assert_allclose(rows.inputs, expected)
    assert (rows.targets.tolist(), meaning["targets"].classes) == ([0, 1, 0, 1, 0, 1], ("a", "b"))


def test_whole_numbers_may_be_classes_or_targets(tmp_path):
    path = save(tmp_path, x=COLUMNS["age"], grade=COLUMNS["grade"])
    rows, _ = converted(tmp_path, from_parquet(path, TableOptions(missing=0, classes=["1", "2", "3"])))
    assert rows.targets.tolist() == [0, 1, 2, 2, 1, 0]
    rows, meaning = converted(tmp_path, from_parquet(path, TableOptions(missing="drop")))
    assert (rows.targets.tolist(), meaning["targets"].classes) == ([1, 3, 3, 2, 1], ())
    assert rows.targets.dtype == np.int64


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (COLUMNS, {}, r"row 1: a value is missing, the first of 5 \(in age 1, color 1, seen 1, at 1, well 1\)"),
        ({"list": COLUMNS["list"], "y": COLUMNS["y"]}, {}, "'list' has values of type list<.*--drop it"),
        ({"a": COLUMNS["id"], "y": pa.array(["a\0"] * 6)}, {}, "'y' has words with a zero byte"),
        ({"a": COLUMNS["id"], "y": COLUMNS["age"]}, {}, "row 1: the target is missing"),
        (
            {"a": pa.array([1.0, 2, np.inf]), "y": pa.array([0, 1, 0])},
            {},
            "row 2: 'inf' in column 'a' is .*; write null",
        ),
        ({"a": COLUMNS["id"], "y": COLUMNS["y"]}, {"targets": ["z"]}, "no column 'z'; it has a, y"),
        ({"a": COLUMNS["id"][:0], "y": COLUMNS["y"][:0]}, {}, "has no rows of values"),
    ],
)
def test_tables_that_do_not_fit(tmp_path, columns, options, message):
    drop = ["list"] if "id" in columns else []
    with pytest.raises(UserError, match=message):
        converted(tmp_path, from_parquet(save(tmp_path, **columns), TableOptions(drop=drop, **options)))


def test_what_is_no_parquet_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "x").write_text("1,2")
    with pytest.raises(UserError, match="x cannot be read as a Parquet file: "):
        from_parquet(tmp_path / "x", TableOptions())
    with pytest.raises(UserError, match="none cannot be read: No such file"):
        from_parquet(tmp_path / "none", TableOptions())
    with pytest.raises(UserError, match="is not a plain file"):
        from_parquet(tmp_path, TableOptions())
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="a Parquet file needs the library pyarrow; pip install pyarrow"):
        from_parquet(tmp_path / "x", TableOptions())


def small_file():
    content = io.BytesIO()
    pq.write_table(pa.table({"a": [1.5, 2.5], "b": ["x", "y"], "y": [1, 2]}), content)
    return content.getvalue()


@settings(max_examples=100)
@given(st.one_of(changed(small_file()), st.binary(max_size=40)))
def test_any_parquet_file_is_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.parquet"
    path.write_bytes(content)
    with suppress(UserError):
        write(path.with_suffix(".h5"), from_parquet(path, TableOptions()), overwrite=True)
