"""The first pages, the tutorial and the cookbook, followed as a reader does, print what they show."""

import pytest

from tests.jobs import ROOT
from tests.pages import blocks_of, is_shown, outputs_of, reader_folder

DOCS = ROOT / "docs"
PAGES = [DOCS / "start.md", DOCS / "tutorial.md", *sorted(DOCS.glob("cookbook/*.md"))]


@pytest.mark.slow
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_prints_what_it_shows(path):
    with reader_folder() as folder:
        for block, printed in outputs_of(path.read_text(), folder):
            assert is_shown(block.text, printed), f"{path.name} shows\n{block.text}\nbut this is printed:\n{printed}"


def test_every_block_of_commands_and_code_is_run_or_says_that_it_is_not():
    for path in PAGES:
        languages = {block.language for block in blocks_of(path.read_text()) if not block.title}
        assert languages <= {"sh", "python", "console", "text", "toml", "csv"}, path.name


SHOWN = "5 examples\n...\nepoch 2  cost 0.1234  1,000 examples/s\ndone in 0.2 s"


@pytest.mark.parametrize(
    ("printed", "same"),
    [
        ("5 examples\nepoch 1\nepoch 2  cost 0.1236  20 examples/s\ndone in 3 ms\n", True),
        ("5 examples\nepoch 2  cost  0.1234  1,000 examples/s\ndone in 0.2 s", True),
        ("6 examples\nepoch 2  cost 0.1234  1,000 examples/s\ndone in 0.2 s", False),
        ("5 examples\nepoch 2  cost 0.3234  1,000 examples/s\ndone in 0.2 s", False),
        ("5 examples\nepoch 2  cost 0.1234  1,000 examples/s\ndone in 0.2 s\nmore", False),
        ("more\n5 examples\nepoch 2  cost 0.1234  1,000 examples/s\ndone in 0.2 s", False),
        ("5 examples\n", False),
        ("5 examples\nepoch 2  cost 0.1234  9 examples/s\na step took 3 ms: data 7%\ndone in 1 min 2 s", True),
    ],
)
def test_outputs_are_compared_but_for_times_last_digits_and_what_is_left_out(printed, same):
    assert is_shown(SHOWN, printed) == same


def test_rows_of_training_are_compared_but_for_speed_and_time_left():
    assert is_shown("*  3/10    0.5213     0.9000     152,033  1 min 20 s", "   3/10   0.5214  0.9000  77       0.3 s")
    assert not is_shown(
        "*  3/10    0.5213     0.9000     152,033  1 min 20 s", "   3/10   0.9214  0.9000  77       0.3 s"
    )
    assert not is_shown(
        "*  3/10    0.5213     0.9000     152,033  1 min 20 s", "   4/10   0.5213  0.9000  77       0.3 s"
    )
