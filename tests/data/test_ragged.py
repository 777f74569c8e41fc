"""Columns of rows of unequal length: in memory, as values and offsets in a file, and of HDF5's variable length."""

import h5py
import numpy as np
import pytest

from dbp.data import (
    ArrayDataset,
    ColumnNames,
    Dataset,
    Examples,
    FileSource,
    HDF5Dataset,
    Ragged,
    example_masks,
    layout_of,
    mapped,
    without_placeholders,
)
from dbp.data.ragged import padded_length, positions_of
from dbp.errors import DataError, UserError

RNG = np.random.default_rng(5)
LENGTHS = [3, 0, 8, 1, 20, 9]
ROWS = [RNG.standard_normal((length, 2)).astype(np.float32) for length in LENGTHS]
LABELS = [RNG.integers(0, 4, length) for length in LENGTHS]
OFFSETS = np.cumsum([0, *LENGTHS])


def write(path, chunks=None, **more):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.concatenate(ROWS), chunks=chunks, compression="gzip" if chunks else None)
        file["offsets"], file["labels"], file["y"] = OFFSETS, np.concatenate(LABELS), np.arange(6)
        for name, values in more.items():
            file[name] = values
    return path


@pytest.mark.parametrize("rows", [[2, 0], [4, 4, 1], slice(1, 4), slice(0, 6), [1], slice(3, 3)], ids=str)
def test_rows_are_padded_to_the_longest_of_them(rows):
    column = Ragged.of(ROWS)
    chosen = rows if isinstance(rows, slice) else np.array(rows)
    wanted = ROWS[rows] if isinstance(rows, slice) else [ROWS[row] for row in rows]
    length = padded_length(max(map(len, wanted), default=0))
    got, mask = column.read(chosen), column.mask(chosen)
    assert got.shape == (len(wanted), length, 2)
    for row, positions, expected in zip(got, mask, wanted, strict=True):
        np.testing.assert_array_equal(row[: len(expected)], expected)
        assert not row[len(expected) :].any()
        np.testing.assert_array_equal(positions, np.arange(length) < len(expected))


def test_padded_lengths_are_few_and_little_longer():
    lengths = np.arange(1, 5000)
    padded = np.array([padded_length(int(length)) for length in lengths])
    assert (padded >= lengths).all()
    assert (padded[64:] <= 1.13 * lengths[64:]).all()
    assert not (padded % 8).any()
    assert len(set(padded.tolist())) < 70


@pytest.mark.parametrize("chunks", [None, (7, 2)])
def test_values_and_offsets_in_a_file(tmp_path, chunks):
    path = write(tmp_path / "ragged.h5", chunks)
    data = HDF5Dataset(path, "x", "labels", offsets="offsets")
    assert (len(data), data.input_shape) == (6, (24, 2))
    for other in (data, mapped(str(path), data.layout)):
        for rows in (np.array([4, 0, 2]), slice(2, 5)):
            read, expected = other.read(rows), ArrayDataset(Ragged.of(ROWS), Ragged.of(LABELS)).read(rows)
            assert set(read) == set(expected) == {"inputs", "targets", "mask", "weights"}
            for name, values in expected.items():
                np.testing.assert_array_equal(read[name], values)
            np.testing.assert_array_equal(read["weights"], read["mask"])


def test_targets_of_examples_beside_ragged_inputs(tmp_path):
    data = HDF5Dataset(write(tmp_path / "ragged.h5"), "x", "y", offsets="offsets")
    read = data.read(np.array([5, 2]))
    assert set(read) == {"inputs", "targets", "mask"}
    assert read["targets"].tolist() == [5, 2]


def test_weights_of_examples_and_of_positions():
    weights = np.array([1, 2, 0.5, 1, 0, 3])
    of_examples = ArrayDataset(Ragged.of(ROWS), Ragged.of(LABELS), weights).read(slice(0, 3))
    np.testing.assert_array_equal(of_examples["weights"], of_examples["mask"] * weights[:3, None])
    each = Ragged.of([weight * np.ones(length) for weight, length in zip(weights, LENGTHS, strict=True)])
    of_positions = ArrayDataset(Ragged.of(ROWS), Ragged.of(LABELS), each)
    np.testing.assert_array_equal(of_positions.read(slice(0, 3))["weights"], of_examples["weights"])


def test_rows_of_variable_length(tmp_path):
    with h5py.File(tmp_path / "variable.h5", "w") as file:
        column = file.create_dataset("inputs", 6, h5py.vlen_dtype(np.int32))
        for row, values in enumerate(LABELS):
            column[row] = values
        file["targets"] = np.arange(6)
    data = HDF5Dataset(tmp_path / "variable.h5")
    assert data.input_shape == (24,)
    for opened in (data, mapped(str(tmp_path / "variable.h5"), data.layout)):
        read, expected = opened.read(np.array([4, 1])), Ragged.of(LABELS)
        np.testing.assert_array_equal(read["inputs"], expected.read(np.array([4, 1])))
        np.testing.assert_array_equal(read["mask"], expected.mask(np.array([4, 1])))


def test_a_mask_beside_inputs_of_one_length(tmp_path):
    x, mask = RNG.standard_normal((5, 4, 2)), RNG.integers(0, 2, (5, 4))
    x[mask == 0] = np.nan
    with h5py.File(tmp_path / "masked.h5", "w") as file:
        file["inputs"], file["targets"], file["valid"] = x, np.arange(5), mask
    for data in (HDF5Dataset(tmp_path / "masked.h5", mask="valid"), ArrayDataset(x, np.arange(5), mask=mask)):
        read = without_placeholders(data.read(slice(1, 4)))
        assert read.mask.dtype == bool
        np.testing.assert_array_equal(read.mask, mask[1:4])
        np.testing.assert_array_equal(read.inputs, np.where(mask[1:4, :, None], x[1:4], 0))


@pytest.mark.parametrize("wrong", [2, 0.5, np.nan])
def test_a_mask_in_memory_is_1_or_0(wrong):
    mask = np.ones((5, 4))
    mask[3, 1] = wrong
    with pytest.raises(DataError, match=f"the arrays: mask must be 1 or 0 .* of example 3 contains {wrong}"):
        ArrayDataset(np.ones((5, 4, 2)), np.arange(5), mask=mask)


class OwnMask(Dataset):
    def __len__(self):
        return 5

    def read(self, rows):
        return Examples({"inputs": np.ones((5, 4, 2))[rows], "mask": np.ones((5, 4))[rows]})


def test_a_mask_of_ones_own_is_of_booleans():
    with pytest.raises(UserError, match="the data set: mask must be booleans, but has type float64; return mask != 0"):
        example_masks(OwnMask())


def test_positions_of_outputs_are_those_of_the_targets():
    mask = np.ones((3, 16), bool)
    assert positions_of((40, 5), np.zeros((3, 16)), mask, 1) == (16, 5)
    assert positions_of((20, 5), np.zeros((3, 16)), mask, 0) == (20, 5)  # of a model that changes the positions
    assert positions_of((5,), np.zeros(3), mask, 0) == (5,)
    assert positions_of((40, 5), np.zeros((3, 40)), None, 1) == (40, 5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Ragged(np.zeros(4), [0, 3]),
            "offsets must rise from 0 to the number of values, which is 4, but go fr",
        ),
        (lambda: Ragged(np.zeros(4), [0, 3, 1, 4]), "but go from 0 to 4 and fall in between$"),
        (lambda: Ragged(np.zeros(6), [3, 1, 2]), r"; these are lengths: give np\.cumsum\(\[0, \*lengths\]\)$"),
        (lambda: Ragged(np.zeros(4), [0.0, 4.0]), r"offsets must be whole numbers, .* but are float64 of shape \(2,\)"),
        (lambda: Ragged(np.zeros(0), [0, 0]), "all rows are empty; leave them out"),
        (lambda: Ragged.of([]), "a ragged column needs at least one row"),
        (lambda: ArrayDataset(ROWS, np.arange(6)), r"inputs are no array .* dbp\.data\.Ragged\.of\(rows\)"),
        (
            lambda: ArrayDataset(Ragged.of(ROWS), Ragged.of(LABELS[::-1])),
            "inputs and targets must have the same lengths, row by row, but have others",
        ),
        (
            lambda: ArrayDataset(np.zeros((6, 3)), Ragged.of(LABELS)),
            "targets have unequal lengths, but inputs ha",
        ),
        (
            lambda: ArrayDataset(Ragged.of(ROWS), np.arange(6), mask=np.ones((6, 20))),
            "inputs of unequal lengths have a mask already; leave mask out",
        ),
        (
            lambda: ArrayDataset(np.zeros((3, 4, 2)), np.arange(3), mask=np.ones((3, 5))),
            r"mask must have the first axes of the inputs, which have shape \(3, 4, 2\), but has shape \(3, 5\)",
        ),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize("chunks", [None, (7, 2)])
def test_several_files_of_which_each_has_a_longest_row_of_its_own(tmp_path, chunks):
    whole = ArrayDataset(Ragged.of(ROWS + ROWS[:3]), Ragged.of(LABELS + LABELS[:3]))
    write(tmp_path / "1.h5", chunks)
    with h5py.File(tmp_path / "2.h5", "w") as file:
        file["x"], file["labels"] = np.concatenate(ROWS[:3]), np.concatenate(LABELS[:3])
        file["offsets"] = OFFSETS[:4]
    source = FileSource([str(tmp_path / "*.h5")], ColumnNames("x", "labels", offsets="offsets"))
    data = source.open()
    assert (len(data), data.input_shape, data.borders is None) == (9, (24, 2), chunks is None)
    for other in (data, source.open_as(layout_of(data))):
        for rows in (np.array([8, 4, 0, 6]), slice(4, 9), np.array([7])):
            read, expected = other.read(rows), whole.read(rows)
            assert set(read) == set(expected)
            for name, values in expected.items():
                np.testing.assert_array_equal(read[name], values)


@pytest.mark.parametrize("rows", [slice(1, 4), np.array([0, 3])])
def test_a_mask_of_other_numbers_than_0_and_1_is_refused(tmp_path, rows):
    mask = np.ones((4, 3), np.int8)
    mask[3, 1] = 2
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["inputs"], file["targets"], file["mask"] = np.ones((4, 3, 1)), np.arange(4), mask
    data = FileSource([f"{tmp_path}/a.h5"], ColumnNames(mask="mask")).open()
    with pytest.raises(
        DataError, match=r"a\.h5: mask must be 1 or 0 for each position, but that of example 3 contains 2"
    ):
        data.read(rows)
    assert data.read(slice(0, 3)).mask.all()


def test_named_inputs_have_lengths_of_their_own(tmp_path):
    words, sounds = (Ragged.of([np.ones((n, 2), np.float32) for n in lengths]) for lengths in ((1, 9), (20, 3)))
    data = ArrayDataset({"words": words, "sounds": sounds, "age": np.ones((2, 1))}, {"tag": np.zeros(2)})
    found = data.read(slice(0, 2))
    assert {name: mask.sum(axis=1).tolist() for name, mask in found.mask.items()} == {
        "words": [1, 9],
        "sounds": [20, 3],
    }
    with pytest.raises(UserError, match=r"targets\.tag must have the same lengths"):
        ArrayDataset({"words": words}, {"tag": Ragged.of([np.ones(2), np.ones(9)])})
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["words"], file["begins"], file["age"] = np.ones((10, 2)), [0, 1, 10], np.ones((2, 1))
        file["tag"] = np.zeros(2)
    names = {"inputs": {"words": "words", "age": "age"}, "targets": {"tag": "tag"}, "offsets": "begins"}
    stored = HDF5Dataset(tmp_path / "a.h5", **names).read(slice(0, 2))
    assert stored.mask["words"].sum(axis=1).tolist() == [1, 9]
    assert stored["inputs.age"].shape == (2, 1)
