"""Progress of a conversion: a bar on a terminal, after a while, and nothing elsewhere."""

import io
import sys

import pytest

from dbp.convert import progress
from dbp.convert.progress import with_progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "seconds", "is_shown"), [(Terminal, 0, True), (Terminal, 9, False), (io.StringIO, 0, False)]
)
def test_a_bar_is_shown_on_a_terminal_after_a_while(monkeypatch, stream, seconds, is_shown):
    monkeypatch.setattr(progress, "SECONDS", seconds)
    monkeypatch.setattr(sys, "stderr", stream())
    blocks = [[1, 2], [3]]
    assert list(with_progress(blocks, len, "writing o.h5", 3)) == blocks
    text = sys.stderr.getvalue()
    assert ("writing o.h5" in text) == is_shown
