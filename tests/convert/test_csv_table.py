"""Tables of text: what is read of them, and what is refused."""

import gzip
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbp.convert.csv_table import TextFormat, from_csv
from dbp.convert.idx import from_idx
from dbp.convert.npz import from_npz
from dbp.convert.options import names_in
from dbp.convert.roles import TableOptions
from dbp.data import ColumnNames
from dbp.errors import UserError
from tests.convert.files import converted, table, write


def convert(path, target=None, **options):
    """Return a table's columns and their meaning."""
    targets = {} if target is None else {"targets": (target,)}
    return converted(path.parent, from_csv(path, TableOptions(**targets, **options)))


@pytest.mark.parametrize(
    ("text", "target", "inputs", "targets", "classes"),
    [
        ("1,2,0\n3,4,1\n", None, [[1, 2], [3, 4]], [0, 1], []),
        ("a,b,y\n1,2,0.5\n3,4,1\n", None, [[1, 2], [3, 4]], [0.5, 1], []),
        ("y,a,b\n7,1,2\n\n9,3,4\n", "y", [[1, 2], [3, 4]], [7, 9], []),
        ("cat,1,2\nbee,3,4\ncat,5,6\n", "0", [[1, 2], [3, 4], [5, 6]], [1, 0, 1], ["bee", "cat"]),
        ("1, 2, u\n3, 4, v\n", "-1", [[1, 2], [3, 4]], [0, 1], ["u", "v"]),
        ("1,1\n2,1e300\n", None, [[1], [2]], [1, 1e300], []),
        ("1,1_0\n2,20\n", None, [[1], [2]], [0, 1], ["1_0", "20"]),
        ("\ufeff1,2,-0\r\n3,4,1\r\n", "2", [[1, 2], [3, 4]], [0, 1], []),
    ],
)
def test_csv(tmp_path, text, target, inputs, targets, classes):
    found, meaning = convert(table(tmp_path, text), target)
    np.testing.assert_array_equal(found.inputs, inputs)
    np.testing.assert_array_equal(found.targets, targets)
    assert meaning["targets"].classes == tuple(classes)


def test_a_table_with_a_header_names_its_columns(tmp_path):
    _, meaning = convert(table(tmp_path, "a,y,b\n1,x,2\n"), "y")
    assert (meaning["inputs"].names, meaning["targets"].names) == (("a", "b"), ("y",))
    _, meaning = convert(table(tmp_path, "1,2\n"))
    assert meaning["inputs"].names is None


@pytest.mark.parametrize("delimiter", ["\t", ";", "|", ",", " ", "   "])
def test_the_delimiter_is_found(tmp_path, delimiter):
    found, meaning = convert(table(tmp_path, "a b y\n1 2 u\n3 4 v\n".replace(" ", delimiter)))
    assert found.inputs.tolist() == [[1, 2], [3, 4]]
    assert meaning["inputs"].names == ("a", "b")


def test_tables_may_be_wide_and_columns_without_names(tmp_path):
    width = 30_000
    text = ",".join(["", *(f"gene {i}" for i in range(1, width)), "y"])
    path = table(tmp_path, f"{text}\n" + f"{'0.125,' * width}a\n" * 3)
    found, meaning = convert(path)
    assert found.inputs.shape == (3, width)
    assert meaning["inputs"].names[:2] == ("0", "gene 1")


def test_a_comma_may_stand_before_decimals(tmp_path):
    path = table(tmp_path, '1,5;2,5e1;x,y\n-,5;7;"u"\n')
    found, meaning = converted(tmp_path, from_csv(path, None, TextFormat(decimal=",")))
    assert found.inputs.tolist() == [[1.5, 25], [-0.5, 7]]
    assert meaning["targets"].classes == ("u", "x,y")
    with pytest.raises(UserError, match="say --header yes or --header no, and --decimal , if commas stand before"):
        from_csv(table(tmp_path, "1;2,5;3\n4;5,5;6\n"))


@pytest.mark.parametrize(
    ("text", "has_header"),
    [
        ("name,2019,y\nBob,1,u\n", None),
        ("name,2019,y\nBob,1,2\n", True),
        ("name,2019,y\n7,1,2\n", True),
        ("red,blue,y\ngreen,red,n\n", True),
        ("1,2,y\n3,4,n\n", False),
        ("a,,y\n3,4,n\n", True),
    ],
)
def test_the_first_line_is_a_header_if_that_is_sure(tmp_path, text, has_header):
    path = table(tmp_path, text)
    if has_header is None:
        with pytest.raises(UserError, match="could be names or values; say --header yes or --header no"):
            from_csv(path)
    else:
        assert from_csv(path).count == 2 - has_header
    for header in (True, False) if has_header is None else (has_header,):
        assert from_csv(path, None, TextFormat(header=header)).count == 2 - header


def test_texts_of_another_encoding(tmp_path):
    path = tmp_path / "t.csv"
    for encoding in ("cp1252", "utf-16", "utf-8-sig"):
        path.write_bytes("größe,y\n1,ä\n2,ö\n".encode(encoding))
        _, meaning = converted(tmp_path, from_csv(path, None, TextFormat(encoding=encoding)))
        assert (meaning["inputs"].names, meaning["targets"].classes) == (("größe",), ("ä", "ö"))
    path.write_bytes("größe,y\n1,ä\n2,ö\n".encode("cp1252"))
    with pytest.raises(UserError, match="if it is one, name its encoding, such as --encoding cp1252"):
        from_csv(path)
    for wrong in ("none", "base64", "a\0"):
        with pytest.raises(UserError, match="--encoding takes one that Python knows, such as cp1252, not"):
            TextFormat(encoding=wrong)


def test_classes_may_be_named_in_their_order(tmp_path):
    path = table(tmp_path, "1,low\n2,high\n3,low\n")
    found, meaning = convert(path, classes=["low", "mid", "high"])
    assert (found.targets.tolist(), meaning["targets"].classes) == ([0, 2, 0], ("low", "mid", "high"))
    assert convert(table(tmp_path, "1,2\n2,1\n"), classes=["1", "2"])[0].targets.tolist() == [1, 0]
    path = table(tmp_path, "1,low\n2,high\n3,low\n")
    with pytest.raises(UserError, match=r"t\.csv, line 1: the target 'low' is none of the classes 2, 3"):
        convert(path, classes=["2", "3"])


def test_names_on_the_command_line():
    assert names_in("--classes", 'ant,"bee, wild", cat') == ["ant", "bee, wild", "cat"]
    for wrong in ("", "ant,ant", "ant,,bee", "a\nb"):
        with pytest.raises(UserError, match="--classes must be different names with commas between them"):
            names_in("--classes", wrong)


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("1,2\n3\n", None, "line 2: 1 value, but the first line has 2"),
        ("a,y\n1,0\nx,1\n", None, "line 3: 'x' is not a number"),
        ("a,y\n", None, "no rows"),
        ("1\n2\n", None, "at least two columns"),
        ("", None, "at least two columns"),
        ("a,y\n1,2\n", "z", "no column 'z'; its first line has a, y"),
        ("a,y\n1,2\n", "5", "no column '5'"),
        ("a,y\n1,2\n", "²", "no column '²'"),
        ("a,y\n1,2\n", "--5", "no column '--5'"),
        ("a,y\n1,2\n", "5" * 5000, "no column '555"),
        ("a,y,y\n1,2,3\n", "y", "has 2 columns 'y'; rename them"),
        ("1,2\n3,\0\n", None, "line 2: holds a zero byte"),
        ("1,u\n3,\n", None, "line 2: the target is missing; write it, or drop such rows"),
        ("1,nan\n2,1\n", None, "line 1: the target is missing"),
        (
            "1,2\n3,\n4,?\n",
            "0",
            r"line 2: a value is missing, the first of 2 \(in 1 2\); fill them with --missing mean",
        ),
        ("1,2\n3,NAN\n", "0", "line 2: 'NAN' is not a number"),
        ("1,2\n1_0,3\n", "1", "line 2: '1_0' is not a number"),
        ("1,2\n" + "9" * 200_000 + ",3\n", "1", "is not a table of text: field larger than field limit"),
    ],
)
def test_tables_that_do_not_fit(tmp_path, text, target, message):
    with pytest.raises(UserError, match=message):
        convert(table(tmp_path, text), target)


@pytest.mark.parametrize("delimiter", ["ab", '"', "\n", "\0"])
def test_a_delimiter_is_one_character(delimiter):
    with pytest.raises(UserError, match="the delimiter must be one character"):
        TextFormat(delimiter)


PARSERS = {
    "idx": lambda path: from_idx(path, path),
    "csv": from_csv,
    "npz": lambda path: from_npz(path, ColumnNames("inputs")),
}


@pytest.mark.parametrize("name", PARSERS)
def test_what_is_no_plain_file_is_refused(tmp_path, name):
    os.mkfifo(tmp_path / "fifo")
    for path in (Path("/dev/zero"), tmp_path / "fifo", tmp_path):
        with pytest.raises(UserError, match=f"{path} is not a plain file; save its content to one"):
            PARSERS[name](path)
    with pytest.raises(UserError, match=r"none cannot be read: No such file or directory"):
        PARSERS[name](tmp_path / "none")


def test_a_damaged_archive_for_a_table_is_refused(tmp_path):
    packed = gzip.compress(b"1,2\n3,4\n" * 50, mtime=0)
    (tmp_path / "t.csv").write_bytes(packed)
    assert from_csv(tmp_path / "t.csv").count == 100
    for content in (packed[:30], packed[:-4] + b"junk"):
        (tmp_path / "t.csv").write_bytes(content)
        with pytest.raises(UserError, match=r"t\.csv cannot be unpacked"):
            from_csv(tmp_path / "t.csv")


# --- whatever a file holds, it is converted or refused ------------------------------------------------

ODD = st.sampled_from(
    [
        b"\0",
        b",",
        b";",
        b" ",
        b"2019-03-01",
        b"?",
        b"\n",
        b'"',
        b"1",
        b"-",
        b"e",
        b"_",
        b"nan",
        b"x",
        b"\xff",
        "é".encode(),
    ]
)
TEXTS = st.one_of(st.binary(max_size=80), st.lists(ODD, max_size=60).map(b"".join))
TARGETS = st.sampled_from([None, "0", "-1", "x", "²", "--1", "\0"])


@settings(max_examples=150)
@given(
    TEXTS,
    st.booleans(),
    TARGETS,
    st.sampled_from([None, ",", "x", "é"]),
    st.sampled_from([None, "mean", "median", "drop"]),
)
def test_any_table_is_converted_or_refused(tmp_path_factory, content, pack, target, delimiter, missing):
    with suppress(UserError):
        path = tmp_path_factory.getbasetemp() / "any.csv"
        path.write_bytes(gzip.compress(content) if pack else content)
        targets = () if target == "0" else (target or "-1",)
        found = from_csv(path, TableOptions(targets=targets, missing=missing), TextFormat(delimiter))
        write(path.with_suffix(".h5"), found, overwrite=True)
