"""The meaning of a data set: where it is found, and as text."""

import re

import h5py
import numpy as np
import pytest

from dbp.data import ArrayDataset, ColumnMeaning, HDF5Dataset, meaning_differences, meaning_text, parse_meaning
from dbp.errors import DataError, UserError

X, Y = np.zeros((6, 2), np.float32), np.array([0, 1, 0, 1, 0, 1])


def write(path, inputs=X, targets=Y, of_inputs=None, of_targets=None):
    with h5py.File(path, "w") as file:
        file["inputs"], file["targets"] = inputs, targets
        file["inputs"].attrs.update(of_inputs or {})
        file["targets"].attrs.update(of_targets or {})
    return path


def test_the_meaning_of_a_file_is_in_the_attributes_of_its_columns(tmp_path):
    names = {"scale": 0.5, "names": np.array([b"width", b"height"])}
    path = write(tmp_path / "a.h5", X.astype(int), Y, names, {"classes": ["bee", "ant"], "names": ["kind"]})
    assert HDF5Dataset(path).meaning == {
        "inputs": ColumnMeaning("integers", 0.5, ("width", "height")),
        "targets": ColumnMeaning("integers", names=("kind",), classes=("bee", "ant")),
    }
    assert HDF5Dataset(path, targets=None, scale=2.0).meaning == {
        "inputs": ColumnMeaning("integers", 2.0, ("width", "height"))
    }
    assert HDF5Dataset(write(tmp_path / "b.h5")).meaning == {
        "inputs": ColumnMeaning("floats"),
        "targets": ColumnMeaning("integers"),
    }


def test_arrays_have_a_meaning_too():
    data = ArrayDataset(X, Y, scale=2, input_names=["width", "height"], classes=["ant", "bee"])
    assert data.meaning["inputs"] == ColumnMeaning("floats", 2.0, ("width", "height"))
    assert data.meaning["targets"] == ColumnMeaning("integers", classes=("ant", "bee"))
    with pytest.raises(UserError, match="the arrays: inputs need a name for each of 2 columns, but have 3 names"):
        ArrayDataset(X, Y, input_names=["a", "b", "c"])
    with pytest.raises(UserError, match="the arrays: targets must have classes of different names, but have ant, ant"):
        ArrayDataset(X, Y, classes=["ant", "ant"])
    for wrong in ("ab", 3, [1, 2]):
        with pytest.raises(UserError, match=r"^the arrays: classes must be a list of texts, but is "):
            ArrayDataset(X, Y, classes=wrong)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("width", "it must be a list of texts"),
        (3, "it must be a list of texts"),
        ([1, 2], "it must be a list of texts"),
        (h5py.Empty("f"), "it must be a list of texts"),
        (np.array([b"\xff", b"a"]), "it must be a list of texts in UTF-8"),
        (["a", "b", "c"], "inputs need a name for each of 2 columns, but have 3 names"),
    ],
)
def test_an_attribute_that_means_something_else_is_ignored_with_a_warning(tmp_path, value, message):
    data = HDF5Dataset(write(tmp_path / "a.h5", of_inputs={"names": value}))
    assert data.meaning["inputs"].names is None
    (warning,) = data.warnings
    pattern = f".*a.h5: 'inputs': the attribute names is ignored, as it is no list of names that fit .*({message})"
    assert re.fullmatch(pattern + r".*\)", warning)


def test_the_names_of_an_enum_type_are_classes(tmp_path):
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        for name, numbers in (("right", {"bee": 1, "ant": 0}), ("from_1", {"ant": 1, "bee": 2})):
            file.create_dataset(name, data=Y, dtype=h5py.enum_dtype(numbers, "u1"))
        file["other"], file["truth"] = file["right"][()], Y.astype(bool)
        file["stated"] = file["right"]
    data = HDF5Dataset(path, targets="right")
    assert data.meaning["targets"] == ColumnMeaning("integers", classes=("ant", "bee"))
    assert data.layout.columns["targets"].shape == Y.shape
    assert data.read(slice(None)).targets.tolist() == Y.tolist()
    assert HDF5Dataset(path, targets="truth").meaning["targets"].classes is None
    left_out = HDF5Dataset(path, targets="from_1")
    assert left_out.meaning["targets"].classes is None
    assert "the names of its enum type are ignored, as its numbers are not 0 to 1" in left_out.warnings[0]
    with h5py.File(path, "r+") as file:
        file["right"].attrs["classes"] = ["no", "yes"]
    assert HDF5Dataset(path, targets="right").meaning["targets"].classes == ("no", "yes")


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["gone"] = h5py.SoftLink("/elsewhere/x")
        file["fine"], file["group/up"] = h5py.SoftLink("/inputs"), h5py.SoftLink("../inputs")
    for name, target in (("gone", "/elsewhere/x"), ("group/up", "../inputs")):
        with pytest.raises(DataError, match=f"{name}' is a link to '{target}', which does not exist in .*a.h5$"):
            HDF5Dataset(path, inputs=name)
    assert len(HDF5Dataset(path, inputs="fine")) == len(X)


def test_it_is_read_from_text_as_it_was_written():
    meaning = {
        "inputs": ColumnMeaning("floats", 1 / 255, ("größe", 'a"b', "")),
        "targets": ColumnMeaning("floats", 2.0, None, (), 0.1, ("cm", ""), (1e-300, 0.1), (1.0, 1 / 3)),
    }
    assert parse_meaning(meaning_text(meaning)) == meaning
    assert parse_meaning(meaning_text({})) == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[" * 10**5,
        '{"inputs": 3}',
        '{"inputs": {"kind": "words"}}',
        '{"inputs": {"kind": "floats", "scale": "x"}}',
        '{"inputs": {"kind": "floats", "names": [3]}}',
        '{"inputs": {"kind": "floats", "shift": [1]}}',
        '{"inputs": {"kind": "floats", "mean": {}}}',
    ],
)
def test_text_of_another_kind_is_refused(text):
    with pytest.raises(DataError, match="its record of the data is not valid"):
        parse_meaning(text)


def test_only_what_is_known_of_both_can_differ():
    named = {"targets": ColumnMeaning("integers", classes=("ant", "bee")), "inputs": ColumnMeaning("floats")}
    other = {"targets": ColumnMeaning("integers", classes=("bee", "ant")), "inputs": ColumnMeaning("integers", 2.0)}
    assert meaning_differences(named, {"targets": ColumnMeaning("integers")}) == []
    assert meaning_differences(named, {}) == meaning_differences(named, named) == []
    (units, _) = meaning_differences(named, other, with_units=True)[::-1]
    assert units == "inputs are floats with scale 1 in the checkpoint, integers with scale 2 now"
    assert meaning_differences(named, other) == ["classes of targets: ant, bee in the checkpoint, bee, ant now"]


def test_scale_shift_and_units_of_columns_are_attributes(tmp_path):
    of_inputs = {"scale": [2.0, 0.5], "shift": 1, "units": ["cm", ""]}
    path = write(tmp_path / "a.h5", of_inputs=of_inputs, of_targets={"scale": 0.1, "units": "K"})
    data = HDF5Dataset(path)
    assert data.meaning == {
        "inputs": ColumnMeaning("floats", (2.0, 0.5), shift=1.0, units=("cm", "")),
        "targets": ColumnMeaning("integers", 0.1, units=("K",)),
    }
    assert str(data.meaning["inputs"]) == 'floats; scale (2, 0.5); shift 1.0; units cm, ""'
    stated = HDF5Dataset(path, scale=(3, 4)).meaning["inputs"]
    assert (stated.scale, stated.shift) == ((3.0, 4.0), None)
    assert HDF5Dataset(path, shift=[3, 4]).meaning["inputs"][1:] == (
        None,
        None,
        None,
        (3.0, 4.0),
        ("cm", ""),
        None,
        None,
    )
    with pytest.raises(
        UserError, match=r"a\.h5: scale has 3 numbers, but there are 2 columns; give one for each, or one"
    ):
        HDF5Dataset(path, scale=(1, 2, 3))
    with pytest.raises(UserError, match=r"'inputs': the attribute shift has 3 numbers, but there are 2 columns"):
        HDF5Dataset(write(tmp_path / "b.h5", of_inputs={"shift": [1, 2, 3]}))
    (warning,) = HDF5Dataset(write(tmp_path / "c.h5", of_inputs={"units": ["a", "b", "c"]})).warnings
    assert "inputs need a unit for each of 2 columns, but have 3 units" in warning


def test_a_scale_of_targets_that_does_not_fit_is_ignored_with_a_warning(tmp_path):
    for number, attributes in enumerate(({"scale": "log"}, {"shift": [1, 2]}, {"scale": 2.0, "classes": ["a", "b"]})):
        data = HDF5Dataset(write(tmp_path / f"{number}.h5", of_targets=attributes))
        targets = data.meaning["targets"]
        assert (targets.scale, targets.shift) == (None, None)
        (warning,) = data.warnings
        assert "'targets': scale and shift are ignored" in warning
