"""What a notebook shows of a terminal."""

import pytest

from dbp.notebook.screen import Lines


@pytest.mark.parametrize(
    ("texts", "shown"),
    [
        (["one\ntwo\n"], "one\ntwo\n"),
        (["on", "e\ntw", "o"], "one\ntwo"),  # as it is written
        (["\rbar 1", "\rbar 2"], "bar 1\rbar 2"),
        (["\rbar 1\rbar 2\rbar 3"], "bar 3"),  # without the pictures before
        (["\rlong bar", "\r        \rdone\n"], "long bar\rdone    \n"),  # what is cleared is not seen
        (["\rbar\r   \rdone\nnext"], "done\nnext"),
        (["a\r\nb"], "a\nb"),
    ],
)
def test_a_line_is_shown_as_it_is_in_the_end(texts, shown):
    lines = Lines()
    assert "".join(map(lines.shown, texts)) == shown
