"""What becomes of the columns of a table: numbers, words, dates, missing values, and tables like an earlier one."""

import h5py
import numpy as np
import pytest

from dbp.convert import table as table_module
from dbp.convert.csv_table import from_csv
from dbp.convert.like import read_coding
from dbp.convert.roles import TableOptions
from dbp.errors import UserError
from tests.convert.files import converted, table, write

TEXT = """id,age,color,seen,size,y
1,20,red,2019-03-01,small,a
2,,blue,2019-03-05 12:00,large,b
3,40,red,2019-04-01,medium,a
4,33,,2019-04-02T00:00:00+00:00,small,b
"""
SIZES = {"size": ("small", "medium", "large")}


def convert(folder, text=TEXT, **options):
    """Return the columns of a table, their meaning, and the notes."""
    found = from_csv(table(folder, text), TableOptions(**options))
    return *converted(folder, found), list(found.notes)


def test_words_dates_and_missing_values(tmp_path):
    found, meaning, notes = convert(tmp_path, drop=["id"], orders=SIZES, missing="mean")
    assert meaning["inputs"].names == ("age", "color=blue", "color=red", "seen", "size")
    assert meaning["targets"].classes == ("a", "b")
    np.testing.assert_array_equal(
        found.inputs, [[20, 0, 1, 0, 0], [31, 1, 0, 4.5, 2], [40, 0, 1, 31, 1], [33, 0, 0, 32, 0]]
    )
    assert found.targets.tolist() == [0, 1, 0, 1]
    assert notes == [
        "color: one column for each of 'blue', 'red'",
        "seen: days since 2019-03-01",
        "size: small = 0, medium = 1, large = 2",
        "age: 1 missing, filled with 31",
        "color: 1 missing, filled with zeros",
    ]
    with h5py.File(tmp_path / "converted.h5") as file:
        assert file["inputs"].attrs["units"].tolist() == ["", "", "", "days since 2019-03-01", ""]


@pytest.mark.parametrize(
    ("missing", "ages"), [("median", [20, 33, 40, 33]), (-1, [20, -1, 40, 33]), ("drop", [20, 40])]
)
@pytest.mark.parametrize("median_bytes", [1, 1 << 20])
def test_rules_for_missing_values(tmp_path, missing, ages, median_bytes, monkeypatch):
    monkeypatch.setattr(table_module, "MEDIAN_BYTES", median_bytes)
    found, _, _ = convert(tmp_path, drop=["id"], missing=missing)
    assert found.inputs[:, 0].tolist() == ages


def test_missing_values_of_dates_and_ordered_words_have_a_mean_too(tmp_path):
    text = "day,size,y\n2019-03-01,small,1\n2019-03-03,,2\n,large,3\n2019-03-08,large,4\n"
    found, _, _ = convert(tmp_path, text, orders=SIZES, missing="mean")
    np.testing.assert_allclose(found.inputs, [[0, 0], [2, 4 / 3], [3, 2], [7, 2]])
    found, _, _ = convert(tmp_path, text, orders=SIZES, missing="median")
    np.testing.assert_array_equal(found.inputs, [[0, 0], [2, 2], [2, 2], [7, 2]])


def test_several_targets_weights_and_chosen_columns(tmp_path):
    text = "a,b,c,d,w\n1,2,3,4.5,1\n5,6,7,8,0\n"
    found, meaning, _ = convert(tmp_path, text, targets=["d", "a"], weights="w", columns=["c", "b"])
    assert (found.inputs.tolist(), meaning["inputs"].names) == ([[3, 2], [7, 6]], ("c", "b"))
    assert (found.targets.tolist(), meaning["targets"].names) == ([[4.5, 1], [8, 5]], ("d", "a"))
    assert meaning["targets"].classes == ()
    assert found.weights.tolist() == [1, 0]
    found, meaning, _ = convert(tmp_path, text, targets=[], drop=["0", "-1"])
    assert (found.targets, meaning["inputs"].names) == (None, ("b", "c", "d"))


def test_columns_of_words_are_stated_where_they_are_not_plain(tmp_path):
    codes = "".join(f"{i},{i % 3},1\n" for i in range(200))
    found, meaning, _ = convert(tmp_path, f"a,zone,y\n{codes}", words=["zone"])
    assert meaning["inputs"].names == ("a", "zone=0", "zone=1", "zone=2")
    assert found.inputs[:4, 1:].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]
    names = "".join(f"Bob {i},1\n" for i in range(200))
    with pytest.raises(
        UserError,
        match=r"'name' has more than 100 different words, such as 'Bob 0', of .*--drop 'name', keep .*--id 'name', or",
    ):
        convert(tmp_path, f"name,y\n{names}")
    assert convert(tmp_path, f"name,y\n{names}", words=["name"])[0].inputs.shape == (200, 200)


def test_texts_that_stand_for_missing_values_are_stated(tmp_path):
    text = "a,b,y\n1,-999,1\n2,5,2\n3,none,3\n"
    found, _, _ = convert(tmp_path, text, missing="mean", missing_texts=["-999", "none"])
    assert found.inputs.tolist() == [[1, 5], [2, 5], [3, 5]]
    again = like(tmp_path, text, missing="mean", missing_texts=["-999", "none"])
    found, _, _ = convert(tmp_path, "a,b\n-999,0\nlost,1\n", **again, targets=(), missing_texts=["lost"])
    assert found.inputs.tolist() == [[2, 0], [2, 1]]


@pytest.mark.parametrize(
    ("text", "day"),
    [("01.04.2019", 31), ("2019/4/1", 31), ("2019-04-01T06:00+03:00", 31.125), ("2019-03-31 23:59:59.5Z", 30.9999942)],
)
def test_ways_to_write_dates(tmp_path, text, day):
    found, _, _ = convert(tmp_path, f"day,y\n1.3.2019,1\n{text},2\n")
    np.testing.assert_allclose(found.inputs[:, 0], [0, day], rtol=1e-8)


def test_dates_of_another_way(tmp_path):
    text = "day,y\n03/01/2019,1\n04/01/2019,2\n"
    with pytest.raises(
        UserError, match=r"line 2: '03/01/2019' in .*--date 'day=%m/%d/%Y'.*--words 'day'.*--drop 'day'"
    ):
        convert(tmp_path, text)
    assert convert(tmp_path, text, words=["day"])[1]["inputs"].names == ("day=03/01/2019", "day=04/01/2019")
    assert convert(tmp_path, text, dates={"day": "%m/%d/%Y"})[0].inputs.tolist() == [[0], [31]]
    found, _, _ = convert(tmp_path, "day,y\n20190301,1\n20190401,2\n", dates={"day": "%Y%m%d"})
    assert found.inputs.tolist() == [[0], [31]]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["2020-01-01", "2020-02-30", "2020-03-01"], "line 3: '2020-02-30' in column 'a' looks like .*--date 'a="),
        (["0,5", "0,5", "0,5", "1,5"], "line 2: '0,5' in .*--decimal , if"),
        (["5", "0,5"], "line 3: '0,5' is not a number, .*--decimal , if"),
        (["1,234", "2,345"], "line 2: '1,234' in .*without commas between thousands"),
        (["0x10", "1_000"], "line 2: '0x10' in .*--words 'a' if"),
        (["5 kg", "7 kg"], "line 2: '5 kg' in "),
        (["Jan 5 2020", "Feb 7 2020"], "line 2: 'Jan 5 2020' in .*with --date"),
        ([f"{day}/01/2020" for day in range(101)], "line 2: '0/01/2020' in "),
    ],
)
def test_numbers_and_dates_in_no_form_that_is_read_are_no_words(tmp_path, cells, message):
    rows = "".join(f"{cell};{number}\n" for number, cell in enumerate(cells))
    with pytest.raises(UserError, match=message):
        convert(tmp_path, f"a;y\n{rows}")


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "1e400"])
@pytest.mark.parametrize("other", ["2", "3", "1e9"])
def test_infinite_numbers_are_refused(tmp_path, cell, other):
    text = f"a,b,y\n1,{other},0\n2,{cell},1\n"
    for target in ("y", "b"):
        with pytest.raises(UserError, match=f"line 3: '{cell}' in column 'b' .*--missing-text '{cell}' .*--drop 'b'"):
            convert(tmp_path, text, targets=[target])
    found, _, _ = convert(tmp_path, text, missing="mean", missing_texts=[cell])
    assert found.inputs.tolist() == [[1, float(other)], [2, float(other)]]
    again = like(tmp_path, "a,b,y\n1,5,0\n", targets=["y"])
    with pytest.raises(UserError, match=f"line 3: '{cell}' is infinite or too large for float64"):
        convert(tmp_path, text, **again)


def test_words_may_be_called_inf(tmp_path):
    _, meaning, _ = convert(tmp_path, "a,y\ninf,0\nsup,1\n", words=["a"])
    assert meaning["inputs"].names == ("a=inf", "a=sup")


@pytest.mark.parametrize("words", [("0-9", "10-19"), ("1st", "2nd"), ("10:30", "11:30"), ("p53", "q7"), ("2/3", "3/3")])
def test_categories_with_digits_are_words(tmp_path, words):
    rows = "".join(f"{word};{number}\n" for number, word in enumerate(2 * words))
    found, meaning, _ = convert(tmp_path, f"a;y\n{rows}")
    assert meaning["inputs"].names == tuple(f"a={word}" for word in words)
    assert found.inputs.tolist() == 2 * [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\n1,2\n", {"columns": ["a"], "drop": ["a"]}, "'a' cannot be one of the inputs and something else"),
        ("a,b\n1,2\n", {"targets": ["a", "a"]}, "'a' cannot be one of the targets and something else"),
        ("a,b\n1,2\n", {"drop": ["a"]}, "no column is left for inputs"),
        ("a,b\n,2\n", {}, "'a' has no values; leave it out with --drop"),
        ("a,b,c\n,2,1\n3,,2\n", {"missing": "drop"}, "in every row a value is missing"),
        ("a,b,c\nx,y,2\n", {"targets": ["a", "b"]}, "'a' has words, but several targets must be numbers"),
        ("a,b,c\n1,2,3\n", {"targets": ["a", "b"], "classes": ["1"]}, "--classes needs one column of targets"),
        ("a,b,c\n1,2,x\n", {"targets": ["a"], "weights": "c"}, "weights in column 'c' must be numbers"),
        ("a,b,c\n1,2,3\n", {"drop": ["a"], "words": ["a"]}, "'a' is left out, so that its coding cannot be stated"),
        ("a,a,b\n1,2,3\n", {}, "has 2 columns 'a', but each needs a name of its own; .* --drop 0,1"),
        ("a,b\nx,2\n", {"orders": {"a": ["y"]}}, "line 2: 'x' is none of the words of column 'a': y"),
        ("a,b\nx,2\n", {"dates": {"a": "%Y"}}, "line 2: 'x' is not a date"),
    ],
)
def test_tables_whose_columns_do_not_fit(tmp_path, text, options, message):
    with pytest.raises(UserError, match=message):
        convert(tmp_path, text, **options)


def like(folder, text=TEXT, **options):
    """Convert a table, and return the options to convert another like it."""
    write(folder / "train.h5", from_csv(table(folder, text), TableOptions(**options)), overwrite=True)
    return {"like": read_coding(str(folder / "train.h5")), "like_name": "train.h5"}


def test_another_table_is_coded_like_the_first(tmp_path):
    again = like(tmp_path, drop=["id"], orders=SIZES, missing="median")
    text = "y,note,size,seen,color,age\nb,x,large,2019-03-02,red,\na,x,small,2018-03-01,,7\n"
    found, meaning, notes = convert(tmp_path, text, **again)
    assert meaning["inputs"].names == ("age", "color=blue", "color=red", "seen", "size")
    assert found.inputs.tolist() == [[33, 0, 1, 1, 2], [7, 0, 0, -365, 0]]
    assert found.targets.tolist() == [1, 0]
    assert notes[-1] == "left out, as train.h5 does not have them: note"
    found, meaning, _ = convert(tmp_path, text, **again, targets=())
    assert (found.targets, set(meaning)) == (None, {"inputs"})
    assert convert(tmp_path, text, **again, missing="mean")[0].inputs[0, 0] == 31


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            "age,y\n1,a\n",
            {},
            "each column of train.h5, but lacks color, seen, size; its first line",
        ),
        (
            "age,color,seen,size\n1,red,2019-01-01,small\n",
            {},
            "but lacks y; .*: say --no-target if the targets are not",
        ),
        (
            "age,color,seen,size,y\n1,pink,2019-01-01,small,a\n",
            {},
            "line 2: 'pink' is none of the words of column 'col",
        ),
        ("age,color,seen,size,y\n1,red,2019-01-01,small,c\n", {}, "line 2: the target 'c' is none of the classes a, b"),
        ("age,color,seen,size,y\n,red,2019-01-01,small,a\n", {"missing": "error"}, "line 2: a value is missing"),
        ("age,color,seen,size,y\nx,red,2019-01-01,small,a\n", {}, "line 2: 'x' is not a number"),
        ("age,color,seen,size,y\n1,red,monday,small,a\n", {}, "line 2: 'monday' is not a date"),
    ],
)
def test_another_table_that_is_not_like_the_first(tmp_path, text, options, message):
    again = like(tmp_path, drop=["id"], orders=SIZES, missing="mean")
    with pytest.raises(UserError, match=message):
        convert(tmp_path, text, **again, **options)


def test_another_table_names_each_column_once(tmp_path):
    with pytest.raises(UserError, match="has 2 columns 'a', but each needs a name of its own"):
        convert(tmp_path, "a,a,b\n1,2,3\n", **like(tmp_path, "a,b\n1,2\n"))
    found, _, _ = convert(tmp_path, "a,a,b,c\n1,2,3,4\n", drop=["0", "1"])
    assert (found.inputs.tolist(), found.targets.tolist()) == ([[3]], [4])


def test_tables_without_names_are_alike_by_index(tmp_path):
    again = like(tmp_path, "u,1,2\nv,3,4\n", targets=["0"])
    assert convert(tmp_path, "v,5,6\n", **again)[0].targets.tolist() == [1]
    assert convert(tmp_path, "5,6\n", **again, targets=())[0].inputs.tolist() == [[5, 6]]
    with pytest.raises(UserError, match="but lacks 2; its first line has v, 1"):
        convert(tmp_path, "v,1\n", **again)


def test_files_that_have_no_coding(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["inputs"] = np.zeros((1, 1))
    with pytest.raises(UserError, match=r"x\.h5 was not converted from a table"):
        read_coding(str(tmp_path / "x.h5"))
    columns = ("", "[]", "{}x", '{"inputs": [{}]}', '{"inputs": [1]}', '{"inputs": [{"name": 1, "kind": "words"}]}')
    for text in (*columns, *(f'{{"columns": {one}, "missing_texts": []}}' for one in columns), '{"columns": {}}'):
        with h5py.File(tmp_path / "x.h5", "a") as file:
            file.attrs["table"] = text
        with pytest.raises(UserError, match=r"x\.h5: its attribute table was not written by dbp convert"):
            read_coding(str(tmp_path / "x.h5"))


def test_a_table_that_changes_between_the_passes_is_refused(tmp_path):
    path = table(tmp_path, "1,2\n3,4\n")
    found = from_csv(path)
    path.write_text("1,2\n3,4\n5,6\n")
    with pytest.raises(UserError, match="did it change meanwhile"):
        write(tmp_path / "o.h5", found)
    path.write_text("1,2\n3,4\n")
    found = from_csv(path)
    path.write_text("1,2\n3,44\n")
    with pytest.raises(UserError, match="was changed while it was read; convert it again"):
        write(tmp_path / "o.h5", found)


def test_names_of_examples_are_kept(tmp_path):
    text = "name,a,y\nBob,1,u\nZoë Ä,,v\n,3,u\n"
    convert(tmp_path, text, ids="name", missing="drop")
    with h5py.File(tmp_path / "converted.h5") as file:
        assert file["ids"].asstr()[:].tolist() == ["Bob", ""]
        assert file["inputs"].attrs["names"].tolist() == ["a"]
    again = like(tmp_path, text, ids="name", missing="mean")
    for table_text, options, names in (
        ("a,name\n1,Al\n2,Bo\n", {}, ["Al", "Bo"]),
        ("a,who\n1,Al\n", {"ids": "who"}, ["Al"]),
        ("a\n1\n", {}, None),
    ):
        convert(tmp_path, table_text, **again, targets=(), **options)
        with h5py.File(tmp_path / "converted.h5") as file:
            assert (names is None and "ids" not in file) or file["ids"].asstr()[:].tolist() == names


def test_columns_are_kept_beside_the_inputs(tmp_path):
    text = "site,often,code,n,x,y\nBern,0.5,007,1,3,a\n,2,7,2,,b\nSt. Gallen,1,7,3,4,b\n"
    keep = {"keep": ["site", "often", "code", "n"], "missing": "drop"}
    found, meaning, _ = convert(tmp_path, text, **keep)
    assert (found.inputs.tolist(), meaning["inputs"].names) == ([[3], [4]], ("x",))
    with h5py.File(tmp_path / "converted.h5") as file:
        assert [file[name].asstr()[:].tolist() for name in ("site", "code")] == [["Bern", "St. Gallen"], ["007", "7"]]
        assert (file["often"][:].tolist(), file["n"][:].tolist()) == ([0.5, 1], [1, 3])
        assert (file["often"].dtype, file["n"].dtype) == (np.float64, np.int64)
    write(tmp_path / "train.h5", from_csv(table(tmp_path, text), TableOptions(**keep)))
    again = {"like": read_coding(str(tmp_path / "train.h5")), "like_name": "train.h5", "keep": ["site"]}
    convert(tmp_path, "site,x,y\nBasel,1,a\n", **again)
    with h5py.File(tmp_path / "converted.h5") as file:
        assert (file["site"].asstr()[:].tolist(), "often" in file) == (["Basel"], False)


def test_a_kept_column_of_numbers_that_becomes_texts_is_told(tmp_path):
    text = "n,code,word,x,y\n1,1,a,1,u\n,007,b,2,v\n3,3,c,3,u\nx,4,d,4,v\n"
    _, _, notes = convert(tmp_path, text, keep=["n", "code", "word"])
    assert notes == [
        "n: kept as texts, as 2 cells of 4 are no numbers, the first in line 3: ''",
        "code: kept as texts, as 1 cell of 4 is no number, the first in line 3: '007'",
    ]


@pytest.mark.parametrize(
    ("text", "keep", "message"),
    [
        ("1,2,3\n", "0", "--keep needs the names of columns, but its first line is taken for values; say --header yes"),
        ("weights,b,c\n1,2,3\n", "weights", "no data set can be called 'weights' beside the inputs"),
        ("a/b,b,c\n1,2,3\n", "a/b", "no data set can be called 'a/b' beside the inputs"),
        ("a,b,c\n1,2,3\n", "c", "'c' cannot be one of the columns to keep and something else"),
    ],
)
def test_columns_that_cannot_be_kept(tmp_path, text, keep, message):
    with pytest.raises(UserError, match=message):
        convert(tmp_path, text, keep=[keep])


def test_names_that_are_repeated_or_empty_and_one_class_are_noted(tmp_path):
    path = table(tmp_path, "name,x,y\nann,1,a\nbob,2,a\nann,3,a\n,4,a\nbob,5,a\n")
    assert from_csv(path, TableOptions(ids="name")).notes == [
        "names of examples: 2 repeated, the first in line 4: 'ann'",
        "names of examples: 1 empty, the first in line 5",
        "y: all targets are of one class, 'a', so that there is nothing to learn",
    ]
