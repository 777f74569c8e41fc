"""Arguments that several commands share."""

import pytest

from dbp.commands.parser import parse_shape
from dbp.errors import UsageError


def test_the_shape_of_an_example_in_words():
    assert [parse_shape(text) for text in ("28,28,1", "784", "(8, 8)", "8,")] == [(28, 28, 1), (784,), (8, 8), (8,)]
    for text in ("8,x", "8,0", "", "-3"):
        with pytest.raises(UsageError, match="--input takes the shape of one example, such as 28,28,1, but is"):
            parse_shape(text)
