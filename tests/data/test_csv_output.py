"""Predictions as a table in CSV."""

from pathlib import Path

import numpy as np
import pytest

from dbp.data import CsvFile
from dbp.errors import UserError

NAN = np.nan


def written(path, pieces, attributes):
    with CsvFile(path, overwrite=False) as file:
        file.create()
        start = 0
        for piece in pieces:
            file.write_rows(piece, start, 3, attributes)
            start += len(piece["outputs"])
        file.commit()
    return Path(path).read_text().splitlines()


def test_classes_have_labels_and_the_columns_of_probabilities_their_names(tmp_path):
    columns = {
        "outputs": np.zeros((3, 2), np.float32),
        "classes": np.array([1, 0, -1]),
        "probabilities": np.array([[0.1, 0.9], [0.75, 0.25], [NAN, NAN]], np.float32),
        "labels": np.array(["bee, big", "cät", ""], "U").astype("O"),
    }
    columns["labels"] = np.array([name.encode() for name in columns["labels"]])
    attributes = {"probabilities": {"names": ["cät", "bee, big"]}}
    pieces = [{name: values[at] for name, values in columns.items()} for at in (slice(2), slice(2, 3))]
    lines = ['row,label,cät,"bee, big"', '0,"bee, big",0.1,0.9', "1,cät,0.75,0.25", "2,,,"]
    assert written(tmp_path / "a.csv", pieces, attributes) == lines
    files = {"files": np.array([b"x/1.png", b"2.png", b"3.png"])}
    without = {name: values for name, values in columns.items() if name != "labels"} | files
    assert written(tmp_path / "b.csv", [without], {})[:2] == [
        "file,class,probability_0,probability_1",
        "x/1.png,1,0.1,0.9",
    ]


def test_numbers_have_the_names_of_targets(tmp_path):
    outputs = {"outputs": np.array([[1.5, -1e-9], [2, 3], [NAN, 4]])}
    lines = ["row,u,v", "0,1.5,-1e-09", "1,2.0,3.0", "2,,4.0"]
    assert written(tmp_path / "a.csv", [outputs], {"outputs": {"names": ["u", "v"]}}) == lines
    assert written(tmp_path / "b.csv", [{"outputs": np.array([1.0, 2.0])}], {}) == ["row,output", "0,1.0", "1,2.0"]


def test_several_targets_of_two_classes_have_a_class_each(tmp_path):
    found = {"outputs": np.zeros((1, 2)), "classes": np.array([[1, 0]]), "probabilities": np.array([[0.5, 0.25]])}
    lines = ["row,class of u,class of v,u,v", "0,1,0,0.5,0.25"]
    assert written(tmp_path / "a.csv", [found], {"probabilities": {"names": ["u", "v"]}}) == lines


def test_outputs_that_are_no_row_are_refused(tmp_path):
    file = CsvFile(tmp_path / "a.csv", overwrite=False)
    file.check_shape(())
    file.check_shape((3,))
    with pytest.raises(UserError, match=r"a\.csv: a table has one row per .* shape \(4, 3\); name an HDF5"):
        file.check_shape((4, 3))


def test_texts_that_begin_like_formulas_get_an_apostrophe_unless_they_are_numbers(tmp_path):
    labels = np.array([b"=1+1", b"-1", b"@sum"])
    columns = {"outputs": np.zeros((3, 2), np.float32), "labels": labels, "ids": np.array([b"+A1", b"+1e3", b"-"])}
    attributes = {"outputs": {"names": ["=a", "b"]}}
    assert written(tmp_path / "a.csv", [columns], attributes) == [
        "id,label,'=a,b",
        "'+A1,'=1+1,0.0,0.0",
        "+1e3,-1,0.0,0.0",
        "'-,'@sum,0.0,0.0",
    ]
