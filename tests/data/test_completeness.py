"""Parts of HDF5 data sets that are missing, which HDF5 itself would fill with zeros."""

import os
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from dbp.data import HDF5Dataset
from dbp.errors import DataError, UserError
from tests.processes import output_of

X = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32) + 5
Y = np.arange(30) % 3


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """Enter a folder with three files of ten rows each."""
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        with h5py.File(f"part{number}.h5", "w") as file:
            file["x"] = X[10 * number : 10 * number + 10]


def virtual(name="all.h5", parts=range(3), rows=30, dataset="x", **options):
    """Write a file with a virtual data set, of some parts, as inputs."""
    shown = h5py.VirtualLayout((rows, 4), "f4")
    for part in parts:
        shown[10 * part : 10 * part + 10] = h5py.VirtualSource(f"part{part}.h5", dataset, (10, 4))
    with h5py.File(name, "w", **options) as file:
        file.create_virtual_dataset("inputs", shown, fillvalue=7)
        file["targets"] = Y[:rows]
    return name


def test_a_whole_virtual_data_set_is_read():
    data = HDF5Dataset(virtual())
    assert not data.warnings
    assert data.layout is not None
    np.testing.assert_array_equal(data.read(np.array([25, 3, 14])).inputs, X[[25, 3, 14]])
    path = Path("all.h5").absolute()
    os.chdir("/")
    np.testing.assert_array_equal(HDF5Dataset(path).read(slice(0, 30)).inputs, X)


@pytest.mark.parametrize("prefix", ["/nowhere:moved", "${ORIGIN}/moved"])
def test_sources_are_looked_for_where_hdf5_does(monkeypatch, prefix):
    name = virtual()
    Path("moved").mkdir()
    for number in range(3):
        Path(f"part{number}.h5").rename(f"moved/part{number}.h5")
    monkeypatch.setenv("HDF5_VDS_PREFIX", prefix)
    try:
        np.testing.assert_array_equal(HDF5Dataset(name).read(slice(0, 30)).inputs, X)
    except DataError:
        with h5py.File(name) as file:
            assert (file["inputs"][:] == 7).all()  # so it was right to refuse it


def shorten(path):
    with h5py.File(path, "w") as file:
        file["x"] = X[:9]


def keep_another(path):
    with h5py.File(path, "w") as file:
        file["y"] = X[:10]


def leave_unwritten(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (10, 4), "f4")


def show_itself(path):
    shown = h5py.VirtualLayout((10, 4), "f4")
    shown[:] = h5py.VirtualSource("all.h5", "inputs", (30, 4))[:10]
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("x", shown)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (Path.unlink, "x in part1.h5 is missing"),
        (lambda path: path.write_text("rubbish"), "x in part1.h5 is missing or not an HDF5 file"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "x in part1.h5 is missing or not an HDF5 file"),
        (shorten, r"x in part1.h5 is too short: it has shape \(9, 4\)"),
        (keep_another, "x in part1.h5 is missing: the file has no such data set"),
        (leave_unwritten, "part1.h5: x was created but never written"),
        (show_itself, "is a source of itself"),
    ],
)
def test_a_source_that_is_not_all_there_is_refused(spoil, message):
    name = virtual()
    spoil(Path("part1.h5"))
    with pytest.raises(DataError, match=message) as caught:
        HDF5Dataset(name)
    assert "part1.h5" in str(caught.value)


def test_a_part_of_a_source_that_is_too_short_is_refused():
    shown = h5py.VirtualLayout((10, 4), "f4")
    shown[:5], shown[5:] = (h5py.VirtualSource("part0.h5", "x", (10, 4))[i::2] for i in range(2))
    with h5py.File("all.h5", "w") as file:
        file.create_virtual_dataset("inputs", shown)
        file["targets"] = Y[:10]
    np.testing.assert_array_equal(HDF5Dataset("all.h5").read(slice(0, 10)).inputs[5:], X[1:10:2])
    shorten("part0.h5")
    with pytest.raises(DataError, match=r"x in part0.h5 is too short"):
        HDF5Dataset("all.h5")


def test_numbers_without_a_source_are_counted():
    (warning,) = HDF5Dataset(virtual(parts=[0, 2])).warnings
    assert "all.h5: 'inputs': 40 of 120 numbers have no source; their numbers count as 7" in warning


def test_sources_by_number_are_all_looked_for():
    space, part = h5py.h5s.create_simple((30, 4), (h5py.h5s.UNLIMITED, 4)), h5py.h5s.create_simple((10, 4))
    space.select_hyperslab((0, 0), (h5py.h5s.UNLIMITED, 1), (10, 1), (10, 4))
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_virtual(space, b"part%b.h5", b"x", part)
    with h5py.File("all.h5", "w") as file:
        h5py.h5d.create(file.id, b"inputs", h5py.h5t.IEEE_F32LE, space, properties)
        file["targets"] = Y
    np.testing.assert_array_equal(HDF5Dataset("all.h5").read(slice(0, 30)).inputs, X)
    leave_unwritten("part1.h5")
    with pytest.raises(DataError, match=r"part1.h5: x was created but never written"):
        HDF5Dataset("all.h5")


def test_a_column_of_which_nothing_is_stored_is_refused():
    with h5py.File("a.h5", "w") as file:
        file.create_dataset("inputs", (2**40, 6), "f4", chunks=(1024, 6), fillvalue=3)
        file.create_dataset("targets", (2**40,), "i4")
    with pytest.raises(DataError, match=r"a.h5: 'inputs' was created but never written"):
        HDF5Dataset("a.h5")


def test_chunks_that_were_never_written_are_counted():
    with h5py.File("a.h5", "w") as file:
        file.create_dataset("inputs", (30, 4), "f4", chunks=(4, 4), fillvalue=3)[:9] = X[:9]
        file["targets"] = Y
    data = HDF5Dataset("a.h5")
    assert data.warnings == ["a.h5: 'inputs': 5 of 8 chunks were never written; their numbers count as 3.0"]
    assert data.read(slice(20, 21)).inputs.tolist() == [[3, 3, 3, 3]]


def test_numbers_in_a_file_of_their_own():
    with h5py.File("a.h5", "w") as file:
        file.create_dataset("inputs", X.shape, "f4", external=[("one", 8, 200), ("two", 0, 280)])[:] = X
        file["targets"] = Y
    np.testing.assert_array_equal(HDF5Dataset("a.h5").read(slice(0, 30)).inputs, X)
    os.truncate("two", 279)
    with pytest.raises(DataError, match="in two, which is too short: it has 279 bytes, but 280 are needed"):
        HDF5Dataset("a.h5")
    Path("one").unlink()
    with pytest.raises(DataError, match="in one, which is missing"):
        HDF5Dataset("a.h5")


@pytest.mark.parametrize("optional", [True, False])
def test_a_filter_that_is_not_installed(optional):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((10, 4))
    properties.set_filter(300, h5py.h5z.FLAG_OPTIONAL, (3,))
    with h5py.File("a.h5", "w") as file:
        column = h5py.h5d.create(file.id, b"inputs", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((30, 4)), properties)
        for row in (0, 10, 20):  # a mask of 1 says that the filter was left out
            column.write_direct_chunk((row, 0), X[row : row + 10].tobytes(), filter_mask=int(optional))
        file["targets"] = Y
    if optional:
        np.testing.assert_array_equal(HDF5Dataset("a.h5").read(slice(0, 30)).inputs, X)
    else:
        with pytest.raises(UserError, match=r"'inputs' is stored with HDF5 filter 300.*HDF5_PLUGIN_PATH"):
            HDF5Dataset("a.h5")


def test_sources_that_go_while_they_are_read():
    data = HDF5Dataset(virtual())
    Path("part1.h5").unlink()
    np.testing.assert_array_equal(data.read(slice(0, 30)).inputs, X)  # as the file is open
    data = HDF5Dataset(virtual("two.h5", parts=[0, 2]))
    os.truncate("part2.h5", 2000)
    with pytest.raises(DataError, match=r"two.h5: 'inputs' cannot be read: .*part2.h5 was cut off to 2,000 bytes"):
        data.read(np.array([3, 22]))


def test_more_sources_than_may_be_open_are_refused():
    shown = h5py.VirtualLayout((60, 4), "f4")
    for part in range(60):
        shown[part] = h5py.VirtualSource(f"row{part}.h5", "x", (4,))
        with h5py.File(f"row{part}.h5", "w") as file:
            file["x"] = X[0]
    with h5py.File("rows.h5", "w") as file:
        file.create_virtual_dataset("inputs", shown)
        file["targets"] = np.zeros(60)
    code = """if True:
        import resource
        from dbp.data import HDF5Dataset
        from dbp.errors import UserError
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        try:
            HDF5Dataset("rows.h5")
        except UserError as error:
            print(error)
    """
    told = output_of(sys.executable, "-c", code)
    assert told.startswith("rows.h5: 'inputs' is virtual, and its 60 parts cannot be open at once (")
    np.testing.assert_array_equal(HDF5Dataset("rows.h5").read(slice(0, 60)).inputs, X[[0] * 60])


@pytest.mark.parametrize("storage", [{"chunks": (5, 4), "compression": "lzf"}, {"external": [("numbers", 0, 480)]}])
def test_a_file_that_is_cut_off_while_hdf5_reads_it_is_named(storage):
    with h5py.File("a.h5", "w") as file:
        file.create_dataset("inputs", X.shape, "f4", **storage)[:] = X
        file["targets"] = Y
    data = HDF5Dataset("a.h5")
    name = "a.h5" if "chunks" in storage else "numbers"
    os.truncate(name, 400)
    with pytest.raises(DataError, match=f"a.h5: 'inputs' .*cannot be read: .*{name} was cut off to 400 bytes"):
        data.columns["inputs"].read(slice(0, 30))
