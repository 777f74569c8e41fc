"""Arguments that several commands share."""

from argparse import Namespace

import pytest

from dbp.commands.parser import data_of, parse_shape
from dbp.errors import UsageError


def test_the_shape_of_an_example_in_words():
    assert [parse_shape(text) for text in ("28,28,1", "784", "(8, 8)", "8,")] == [(28, 28, 1), (784,), (8, 8), (8,)]
    for text in ("8,x", "8,0", "", "-3"):
        with pytest.raises(UsageError, match="--input takes the shape of one example, such as 28,28,1, but is"):
            parse_shape(text)


def test_names_of_columns():
    for text, names in (("x", "x"), ('"x y"', "x y"), ('["a", "b"]', ("a", "b"))):
        assert data_of(Namespace(data="d", scale=None, set=[f"data.inputs={text}"])).names == {"inputs": names}
    for text in ("data.inputs=[a, b]", "data.train=x", "inputs=x", "data.inputs="):
        with pytest.raises(UsageError, match="--set takes "):
            data_of(Namespace(data="d", scale=None, set=[text]))
