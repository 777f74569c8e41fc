"""Data sets, their order, checks and converters."""

import gzip
import struct

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbp.cost.loader import Loader
from dbp.data import ArrayDataset, Batches, HDF5Dataset, Order, Subset, block_count, check_blocks, combined, convert
from dbp.data.check import BLOCK_ROWS
from dbp.errors import UserError
from dbp.nn import MeanSquaredError
from dbp.parallel import Shards

RNG = np.random.default_rng(0)


# --- order ------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**63), st.integers(0, 1000))
def test_an_order_is_a_permutation(size, seed, epoch):
    rows = Order(size, seed, "order", epoch)(np.arange(size))
    assert sorted(rows.tolist()) == list(range(size))


def test_an_order_depends_on_seed_purpose_and_epoch():
    orders = [Order(500, *key)(np.arange(500)) for key in ((0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1))]
    for i, one in enumerate(orders):
        for other in orders[i + 1 :]:
            assert (one == other).mean() < 0.05
    np.testing.assert_array_equal(orders[0], Order(500, 0, "a", 0)(np.arange(500)))


def test_every_row_comes_to_every_position_equally_often():
    """Chi-squared over 400 orders of 16: 225 degrees of freedom, so 330 is five standard deviations out."""
    counts = np.zeros((16, 16))
    for seed in range(400):
        counts[np.arange(16), Order(16, seed, "order")(np.arange(16))] += 1
    assert ((counts - 25) ** 2 / 25).sum() < 330


def test_neighbours_are_torn_apart():
    rows = Order(60000, 0, "order")(np.arange(60000))
    assert abs(np.corrcoef(rows[:-1], rows[1:])[0, 1]) < 0.02
    assert abs(np.corrcoef(rows, np.arange(60000))[0, 1]) < 0.02


def test_runs_of_positions_read_ahead_the_same_rows():
    order, again = Order(100000, 0, "order"), Order(100000, 0, "order")
    whole = order(np.arange(100000))
    for start, stop in [(0, 10), (10, 64), (5, 70000), (40000, 40001), (99990, 100000), (3, 3)]:
        np.testing.assert_array_equal(again.rows(range(start, stop)), whole[start:stop])


def test_batches_cover_an_epoch_with_a_short_last_one():
    batches = Batches(10, 4)
    assert [batches.positions(step) for step in range(batches.steps)] == [range(4), range(4, 8), range(8, 10)]


# --- data sets --------------------------------------------------------------------------------------


def write(path, **columns):
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            if isinstance(values, dict):
                file.create_dataset(name, **values)
            else:
                file[name] = values
    return path


X, Y = RNG.standard_normal((23, 4)).astype(np.float32), RNG.integers(0, 3, 23)


@pytest.mark.parametrize("storage", [{}, {"chunks": (5, 4)}, {"chunks": (7, 2), "compression": "gzip"}])
def test_hdf5_rows_however_they_are_stored(tmp_path, storage):
    path = write(tmp_path / "a.h5", inputs={"data": X, **storage}, targets=Y)
    data = HDF5Dataset(path)
    assert len(data) == 23
    assert data.input_shape == (4,)
    for rows in (slice(3, 9), np.array([7, 2, 2, 22, 8, 9]), np.array([], int)):
        examples = data.read(rows)
        np.testing.assert_array_equal(examples.inputs, X[rows])
        np.testing.assert_array_equal(examples.targets, Y[rows])
        assert examples.weights is None


def test_rows_in_one_piece_are_mapped_not_read(tmp_path):
    data = HDF5Dataset(write(tmp_path / "a.h5", inputs=X, targets=Y))
    assert isinstance(data._columns[0], np.memmap)


def test_big_endian_and_a_user_block(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=512) as file:
        file["inputs"], file["targets"] = X.astype(">f8"), Y
    examples = HDF5Dataset(tmp_path / "a.h5").read(np.array([3, 1]))
    np.testing.assert_array_equal(examples.inputs, X[[3, 1]])


def test_weights_and_scale_are_found(tmp_path):
    path = write(tmp_path / "a.h5", inputs=X, targets=Y, weights=np.arange(23.0))
    with h5py.File(path, "a") as file:
        file["inputs"].attrs["scale"] = 0.5
    data = HDF5Dataset(path)
    assert data.scale == 0.5
    np.testing.assert_array_equal(data.read(slice(3, 5)).weights, [3, 4])
    assert HDF5Dataset(path, scale=2.0).scale == 2


def test_packaged_digits_tell_where_they_are_from():
    train, test = HDF5Dataset("dbp:digits-train"), HDF5Dataset("dbp:digits-test")
    assert (len(train), len(test)) == (1438, 359)
    assert train.input_shape == (8, 8)
    with h5py.File(test._columns[0].filename) as file:
        assert "CC BY 4.0" in file.attrs["license"]
        assert "UCI" in file.attrs["source"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"inputs": X, "targets": Y[:9]}, "one row per example.*inputs have 23 rows and targets have 9"),
        ({"inputs": X}, "no data set 'targets'; it has inputs"),
        ({"x": X, "y": Y}, "no data set 'inputs'; it has x, y.*data.inputs"),
        ({"inputs": X[:0], "targets": Y[:0]}, "has no examples"),
        ({"inputs": Y, "targets": Y}, "at least two axes"),
        ({"inputs": np.array([[b"a"]] * 23), "targets": Y}, "inputs must be numbers, but have type"),
        ({"inputs": X, "targets": 3}, "targets have none"),
    ],
)
def test_files_that_do_not_fit(tmp_path, columns, message):
    path = write(tmp_path / "a.h5", **columns)
    with pytest.raises(UserError, match=message) as caught:
        HDF5Dataset(path)
    assert "a.h5" in str(caught.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(UserError, match=r"missing.h5 does not exist"):
        HDF5Dataset(tmp_path / "missing.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(UserError, match=r"text.h5 is not an HDF5 file.*dbp convert"):
        HDF5Dataset(tmp_path / "text.h5")
    with pytest.raises(UserError, match=r"is not an HDF5 file"):
        HDF5Dataset(tmp_path)
    with pytest.raises(UserError, match=r"did you mean 'dbp:digits-train'"):
        HDF5Dataset("dbp:digits-trian")


def test_a_subset_reads_through_its_order():
    whole = ArrayDataset(X, Y, weights=np.arange(23.0))
    order = Order(23, 0, "split")
    rows = order(np.arange(23))
    part = Subset(whole, order, range(15, 23))
    assert len(part) == 8
    np.testing.assert_array_equal(part.read(slice(2, 5)).inputs, X[rows[17:20]])
    np.testing.assert_array_equal(part.read(np.array([7, 0])).weights, rows[[22, 15]])


class Counting(ArrayDataset):
    """Remembers which rows were read."""

    def __init__(self, *columns):
        super().__init__(*columns)
        self.rows = []

    def read(self, rows):
        self.rows += np.arange(len(self))[rows].tolist()
        return super().read(rows)


@pytest.mark.parametrize("ranks", [1, 2, 3, 6])
def test_ranks_read_their_own_rows_only(ranks):
    order, seen = Order(23, 0, "order"), []
    for rank in range(ranks):
        data = Counting(X, X)
        loader = Loader(data, MeanSquaredError(), (4,), np.dtype("float32"), Shards(4, rank, ranks))
        batch = loader.batch(order, range(10, 23))
        assert sum(len(shard.inputs) for shard in batch) == len(data.rows)
        seen += data.rows
    assert sorted(seen) == sorted(order(np.arange(10, 23)).tolist())


# --- checks -----------------------------------------------------------------------------------------


def check(data, blocks=None):
    return check_blocks(
        data, range(block_count(data)) if blocks is None else blocks, lambda targets, weights, first: None
    )


def test_every_number_and_its_place_count_for_the_digest():
    x = RNG.standard_normal((2 * BLOCK_ROWS + 3, 2))
    y = np.arange(len(x))
    base = combined(check(ArrayDataset(x, y)))
    parts = check(ArrayDataset(x, y), range(1)) + check(ArrayDataset(x, y), range(1, 3))
    assert combined(parts) == base
    moved = x.copy()
    moved[-1, -1] += 1
    others = [ArrayDataset(moved, y), ArrayDataset(x, y[::-1]), ArrayDataset(x, y, np.ones(len(x)))]
    others += [ArrayDataset(x, y, scale=2.0), ArrayDataset(x[:-1], y[:-1]), ArrayDataset(x.astype("f4"), y)]
    assert base not in {combined(check(other)) for other in others}


def test_bad_numbers_are_named_by_row():
    x = np.zeros((BLOCK_ROWS + 10, 2))
    x[BLOCK_ROWS + 4, 1] = -np.inf
    with pytest.raises(UserError, match=f"the arrays: inputs must be finite.*example {BLOCK_ROWS + 4} contain -inf"):
        check(ArrayDataset(x, x))
    w = np.ones(len(x))
    w[7] = -1
    with pytest.raises(UserError, match=r"weights must be finite and not negative.*example 7 is -1"):
        check(ArrayDataset(0 * np.nan_to_num(x), x, w))


# --- converters -------------------------------------------------------------------------------------


def idx_bytes(array, code=8):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes()


IMAGES = RNG.integers(0, 256, (5, 3, 2)).astype(np.uint8)
LABELS = np.array([0, 1, 2, 1, 0], np.uint8)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_plain_and_gzip(tmp_path, pack):
    (tmp_path / "i").write_bytes(pack(idx_bytes(IMAGES)))
    (tmp_path / "l").write_bytes(pack(idx_bytes(LABELS)))
    columns = convert.from_idx(tmp_path / "i", tmp_path / "l")
    assert convert.write_hdf5(tmp_path / "o.h5", columns, {"source": "here"}, overwrite=False) == 5
    data = HDF5Dataset(tmp_path / "o.h5")
    np.testing.assert_array_equal(data.read(slice(0, 5)).inputs, IMAGES)
    assert data.scale == 1 / 255
    assert isinstance(data._columns[0], np.memmap)


def test_idx_of_other_types(tmp_path):
    (tmp_path / "f").write_bytes(idx_bytes(np.array([1.5, -2], ">f4"), 13))
    np.testing.assert_array_equal(convert.read_idx(tmp_path / "f"), [1.5, -2])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file: it starts with nothing"),
        (b"\x89PNG", "not an IDX file: it starts with 89 50 4e 47"),
        (idx_bytes(IMAGES)[:9], "cut short"),
        (idx_bytes(IMAGES)[:-1], r"needs 30 bytes, but 29 follow"),
        (gzip.compress(idx_bytes(IMAGES))[:-9], "cannot be unpacked"),
    ],
)
def test_idx_files_that_are_none(tmp_path, content, message):
    (tmp_path / "i").write_bytes(content)
    with pytest.raises(UserError, match=message):
        convert.read_idx(tmp_path / "i")


def test_an_existing_file_is_kept_unless_told_otherwise(tmp_path):
    (tmp_path / "o.h5").write_text("mine")
    columns = {"inputs": X, "targets": Y}
    with pytest.raises(UserError, match="exists; choose another name or pass --overwrite"):
        convert.write_hdf5(tmp_path / "o.h5", columns, {}, overwrite=False)
    assert (tmp_path / "o.h5").read_text() == "mine"
    assert convert.write_hdf5(tmp_path / "o.h5", columns, {}, overwrite=True) == 23
    with pytest.raises(UserError, match="one row per example"):
        convert.write_hdf5(tmp_path / "p.h5", {"inputs": X, "targets": Y[:3]}, {}, overwrite=False)
    with pytest.raises(UserError, match="cannot be written"):
        convert.write_hdf5(tmp_path / "no" / "p.h5", columns, {}, overwrite=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.h5"]


def test_npz(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, targets=Y, w=np.ones(23))
    columns = convert.from_npz(tmp_path / "a.npz", "x", "targets", "w")
    np.testing.assert_array_equal(columns["inputs"], X)
    with pytest.raises(UserError, match="no array 'inputs'; it has x, targets, w"):
        convert.from_npz(tmp_path / "a.npz", "inputs", "targets", None)
    np.savez(tmp_path / "b.npz", inputs=np.array([{}], object), targets=Y)
    (tmp_path / "c.npz").write_text("no")
    for name in ("b.npz", "c.npz"):
        with pytest.raises(UserError, match="is not an npz archive of plain arrays"):
            convert.from_npz(tmp_path / name, "inputs", "targets", None)


def table(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    return tmp_path / "t.csv"


@pytest.mark.parametrize(
    ("text", "target", "inputs", "targets", "classes"),
    [
        ("1,2,0\n3,4,1\n", None, [[1, 2], [3, 4]], [0, 1], []),
        ("a,b,y\n1,2,0.5\n3,4,1\n", None, [[1, 2], [3, 4]], [0.5, 1], []),
        ("y,a,b\n7,1,2\n\n9,3,4\n", "y", [[1, 2], [3, 4]], [7, 9], []),
        ("cat,1,2\nbee,3,4\ncat,5,6\n", "0", [[1, 2], [3, 4], [5, 6]], [1, 0, 1], ["bee", "cat"]),
        ("1, 2, u\n3, 4, v\n", "-1", [[1, 2], [3, 4]], [0, 1], ["u", "v"]),
    ],
)
def test_csv(tmp_path, text, target, inputs, targets, classes):
    columns, names = convert.from_csv(table(tmp_path, text), target, ",")
    assert columns["inputs"].tolist() == inputs
    assert columns["targets"].tolist() == targets
    assert names == classes


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("1,2\n3\n", None, "line 2: 1 values, but the first line has 2"),
        ("a,y\n1,0\nx,1\n", None, "line 3: 'x' is not a number"),
        ("a,y\n", None, "no rows"),
        ("1\n2\n", None, "at least two columns"),
        ("", None, "at least two columns"),
        ("a,y\n1,2\n", "z", "no column 'z'; its first line has a, y"),
        ("a,y\n1,2\n", "5", "no column '5'"),
    ],
)
def test_tables_that_do_not_fit(tmp_path, text, target, message):
    with pytest.raises(UserError, match=message):
        convert.from_csv(table(tmp_path, text), target, ",")
