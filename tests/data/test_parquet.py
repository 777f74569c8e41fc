"""Data sets in Parquet files that are read as they are, a row group at a time."""

import io
import re
import threading
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings

from dbp.data import ColumnNames, FileSource, parquet
from dbp.errors import DataError, UserError
from tests.convert.files import changed
from tests.data.opening import opened
from tests.jobs import digest, mpirun

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
RNG = np.random.default_rng(0)
ROWS = 50
A, B = RNG.standard_normal(ROWS).astype(np.float32), RNG.integers(-9, 9, ROWS).astype(np.int16)
Y, W = RNG.integers(0, 3, ROWS), RNG.random(ROWS)
LISTS = RNG.standard_normal((ROWS, 4))
IMAGES = RNG.integers(0, 256, (ROWS, 3, 2), np.uint8)
COLUMNS = {
    "a": pa.array(A),
    "b": pa.array(B),
    "yes": pa.array(A > 0),
    "y": pa.array(Y),
    "weights": pa.array(W),
    "lists": pa.array(list(LISTS)),
    "fixed": pa.FixedSizeListArray.from_arrays(pa.array(LISTS.ravel()), 4),
    "images": pa.array(IMAGES.tolist(), pa.list_(pa.list_(pa.uint8()))),
    "site": pa.array([f"s{row % 3}" for row in range(ROWS)]),
    "code": pa.array([f"c{row % 2}" for row in range(ROWS)]).dictionary_encode(),
}
CHOSEN = [slice(0, ROWS), slice(9, 27), slice(10, 20), np.array([49, 0, 7, 7, 30])]


def save(folder, name="t", rows=slice(None), row_group_size=10, **columns):
    """Write a table of all columns, or of these, and return the source of some of them."""
    table = pa.table(columns or COLUMNS).take(np.arange(ROWS)[rows])
    pq.write_table(table, folder / f"{name}.parquet", row_group_size=row_group_size)
    return f"{folder}/{name}.parquet"


@pytest.mark.parametrize(
    ("inputs", "expected", "names"),
    [
        (("a", "b", "yes"), np.stack([A, B, A > 0], axis=1), ("a", "b", "yes")),
        ("a", A[:, None], ("a",)),
        ("lists", LISTS, None),
        ("fixed", LISTS, None),
        ("images", IMAGES, None),
        (("b", "lists"), np.column_stack([B, LISTS]), ("b", *(f"lists.{i}" for i in range(4)))),
    ],
)
def test_columns_of_all_kinds(tmp_path, inputs, expected, names):
    source = FileSource([save(tmp_path)], ColumnNames(inputs, "y"), scale=2.0)
    for data in opened(source):
        assert (len(data), data.scale, data.meaning["inputs"].names) == (ROWS, 2.0, names)
        assert data.borders.tolist() == [0, 10, 20, 30, 40, 50]
        assert (data.meaning["targets"].names, data.meaning["targets"].classes) == (("y",), None)
        for rows in CHOSEN:
            found = data.read(rows)
            for column, values in (("inputs", expected), ("targets", Y), ("weights", W)):
                np.testing.assert_array_equal(found[column], values[rows])
                if isinstance(rows, slice):
                    into = np.empty_like(found[column])
                    data.columns[column].read_into(range(rows.start, rows.stop), into)
                    np.testing.assert_array_equal(into, values[rows])
    assert "targets" not in source.open(with_targets=False).columns


def test_several_targets_and_a_mask(tmp_path):
    path = save(tmp_path, x=COLUMNS["lists"], m=pa.array([[1, 1, 0, 0]] * ROWS), u=COLUMNS["a"], v=COLUMNS["b"])
    data = FileSource([path], ColumnNames("x", ("u", "v"), mask="m")).open()
    assert data.read(slice(3, 5)).mask.tolist() == [[True, True, False, False]] * 2
    np.testing.assert_array_equal(data.read(slice(3, 5)).targets, np.column_stack([A, B])[3:5])
    assert data.meaning["targets"].names == ("u", "v")


def test_a_row_group_is_kept_until_its_last_row_is_read(tmp_path, monkeypatch):
    data = FileSource([save(tmp_path)], ColumnNames("a", "y")).open()
    read, calls = parquet.ParquetSource.read_group, []
    monkeypatch.setattr(
        parquet.ParquetSource,
        "read_group",
        lambda self, group, name: calls.append((group, name)) or read(self, group, name),
    )
    for start in range(0, ROWS, 5):
        data.read(slice(start, start + 5))
    assert calls == [(group, name) for group in range(5) for name in ("a", "y", "weights")]


def test_threads_read_the_same_rows(tmp_path):
    data = FileSource([save(tmp_path)], ColumnNames("lists", "y")).open()
    wrong = []

    def read(seed):
        drawn = np.random.default_rng(seed).integers(0, ROWS, (40, 7))
        wrong.extend(rows for rows in drawn if (data.read(rows).inputs != LISTS[rows]).any())

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


def test_several_files_and_columns_that_no_model_sees(tmp_path):
    save(tmp_path, "0", slice(0, 20))
    save(tmp_path, "1", slice(20, ROWS), row_group_size=7)
    source = FileSource([f"{tmp_path}/*.parquet"], ColumnNames(("a", "b"), "y"))
    for data in opened(source):
        assert data.borders.tolist() == [0, 10, 20, 27, 34, 41, 48, 50]
        np.testing.assert_array_equal(data.read(np.array([45, 3, 21])).targets, Y[[45, 3, 21]])
    assert source.read_column("site").tolist() == COLUMNS["site"].to_pylist()
    assert source.read_column("code").tolist() == COLUMNS["code"].to_pylist()
    np.testing.assert_array_equal(source.read_column("weights"), W)
    with pytest.raises(UserError, match="has no column 'zip' for the groups or the weights for drawing; it has a, b"):
        source.read_column("zip")


UNEQUAL = pa.array([[1.0, 2]] * 30 + [[1.0]] + [[1.0, 2]] * 18 + [[1.0, 2, 3]])


@pytest.mark.parametrize(
    ("columns", "inputs", "message"),
    [
        (
            COLUMNS,
            "inputs",
            "has no column 'inputs' for the inputs; it has a, b, .*: name the right ones in",
        ),
        (
            COLUMNS,
            "site",
            "inputs 'site' has values of type string, but needs numbers; make a data file of ",
        ),
        (COLUMNS, ("a", "code"), "'code' has values of type dictionary.*: dbp convert parquet .*t.parquet .*t.h5"),
        (
            {"t": pa.array([["a"]] * ROWS), "y": COLUMNS["y"]},
            "t",
            "'t' has values of type list.*; leave the col",
        ),
        (
            COLUMNS,
            ("a", "images"),
            "'images' has lists of shape .*, which no other .*; name it alone",
        ),
        (
            {"a": pa.array([None, *A[:-2], None]), "y": COLUMNS["y"]},
            "a",
            "inputs 'a' has 2 missing values; make a data file of it with: dbp convert parquet .* --missing mean",
        ),
        ({"a": pa.array([None, *LISTS[1:]]), "y": COLUMNS["y"]}, "a", "'a' of example 0 has a missing value; leave"),
        ({"a": pa.array([LISTS[0], None, *LISTS[2:]]), "y": COLUMNS["y"]}, "a", "'a' has 1 missing value; write nu"),
    ],
)
def test_columns_that_do_not_fit(tmp_path, columns, inputs, message):
    with pytest.raises(UserError, match=message):
        FileSource([save(tmp_path, **columns)], ColumnNames(inputs, "y")).open()


def test_what_shows_only_when_it_is_read_is_named(tmp_path):
    data = FileSource([save(tmp_path, a=UNEQUAL, y=COLUMNS["y"])], ColumnNames("a", "y")).open()
    assert data.read(slice(0, 30)).inputs.shape == (30, 2)
    with pytest.raises(DataError, match="'a' of example 30 has 1 number in a list, but that of example 0 has 2; write"):
        data.read(slice(30, 31))
    table = pa.table({"a": pa.array([*A[:-1], None]), "y": COLUMNS["y"]})
    pq.write_table(table, tmp_path / "n.parquet", write_statistics=False)
    data = FileSource([f"{tmp_path}/n.parquet"], ColumnNames("a", "y")).open()
    with pytest.raises(DataError, match=r"n.parquet: inputs 'a' of example 49 has a missing value"):
        data.read(slice(0, 1))


def test_files_that_do_not_fit(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"t.parquet: has no examples"):
        FileSource([save(tmp_path, rows=slice(0, 0))], ColumnNames("a", "y")).open()
    path = save(tmp_path)
    with pytest.raises(UserError, match=r"data\.offsets needs HDF5 files"):
        FileSource([path], ColumnNames("a", "y", offsets="o")).open()
    data = FileSource([path], ColumnNames("a", "y")).open()
    content = bytearray((tmp_path / "t.parquet").read_bytes())
    content[4:1500] = bytes(1496)
    with (tmp_path / "t.parquet").open("r+b") as file:
        file.write(content)
    with pytest.raises(DataError, match=r"t.parquet: '\w+' of 10 examples from 0 to 9 cannot be read as a Parq"):
        data.read(slice(0, 10))
    (tmp_path / "t.parquet").write_bytes(content[:100])
    with pytest.raises(UserError, match=r"t.parquet cannot be read as a Parquet file"):
        FileSource([path], ColumnNames("a", "y")).open()
    monkeypatch.setattr(parquet, "MOST_GROUP_BYTES", 10)
    with pytest.raises(UserError, match="a row group of inputs takes 40 B, and at most 10 B are read at once"):
        FileSource([save(tmp_path)], ColumnNames("a", "y")).open()


def small_file():
    content = io.BytesIO()
    table = pa.table({"a": [1.5, 2.5, 3.5], "v": [[1, 2], [3, 4], [5, 6]], "y": [1, 2, 3]})
    pq.write_table(table, content, row_group_size=2)
    return content.getvalue()


@settings(max_examples=150)
@given(changed(small_file()))
def test_any_file_is_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.parquet"
    path.write_bytes(content)
    source = FileSource([str(path)], ColumnNames(("a", "v"), "y"))
    with suppress(UserError):
        data = source.open()
        data.read(slice(0, len(data)))
        source.read_column("a")


def test_lists_of_names_are_for_parquet_alone(tmp_path):
    np.savez(tmp_path / "a.npz", x=A[:, None], y=Y)
    for name in ("a.npz", "a.h5"):
        with pytest.raises(
            UserError, match=re.escape(f"{name}: data.inputs must be the name of one data set, but is ['x'")
        ):
            FileSource([f"{tmp_path}/{name}"], ColumnNames(("x", "z"), "y")).open()


CONFIG = """
loss = "cross_entropy"
epochs = 2
batch_size = 8
shards = 3

[data]
train = "*.parquet"
inputs = ["a", "b"]
targets = "y"
validation = { part = 0.3, take = "groups", groups = "site" }
window = 20
standardize = "inputs"

[model]
layers = [{ kind = "dense", units = 3 }]

[optimizer]
kind = "adam"
"""


@pytest.mark.slow
def test_runs_have_the_same_bits_on_any_number_of_ranks(tmp_path):
    save(tmp_path, "0", slice(0, 20), row_group_size=6)
    save(tmp_path, "1", slice(20, ROWS), row_group_size=6)
    (tmp_path / "c.toml").write_text(CONFIG)
    for ranks in (1, 2, 3):
        memory = "8 kB" if ranks == 2 else "1 MB"
        words = ("--out", tmp_path / str(ranks), "--set", f"data.memory={memory}")
        outcome = mpirun(ranks, "-m", "dbp", "train", tmp_path / "c.toml", *words)
        assert outcome.code == 0, outcome.text
    assert len({digest(tmp_path / str(ranks)) for ranks in (1, 2, 3)}) == 1
