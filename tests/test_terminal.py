"""Streams that are gone, and what cannot be encoded."""

import io
import os
import pty
import sys

import pytest

from dbp.terminal import encodable, write_line
from dbp.text import lines_of, table
from tests.jobs import digest, run
from tests.processes import ProcessTree, run_on_terminal

TRAIN = f"{sys.executable} -m dbp train"


@pytest.mark.parametrize("redirect", [">&- 2>&-", ">/dev/full 2>/dev/full", "| true"])
def test_a_training_does_not_need_its_streams(small, tmp_path, redirect, reference):
    outcome = run("bash", "-c", f"{TRAIN} {small} {redirect}; exit ${{PIPESTATUS[0]}}")
    assert (outcome.code, outcome.err) == (0, "")
    assert digest(tmp_path / "run") == reference[0]
    assert not any(b"examples/s" in path.read_bytes() for path in (tmp_path / "run" / "checkpoints").iterdir())


def test_a_training_goes_on_when_its_terminal_is_closed(small, tmp_path):
    ours, its = pty.openpty()
    program = "import os, sys, dbp.cli; os.read(0, 1); sys.exit(dbp.cli.main(['train', sys.argv[1]]))"
    reader, writer = os.pipe()
    command = [sys.executable, "-c", program, small]
    with ProcessTree(*command, stdin=reader, stdout=its, stderr=its) as tree:
        os.close(its)
        os.close(ours)
        os.write(writer, b"x")
        assert tree.wait() == 0
    assert digest(tmp_path / "run")


def test_help_into_nowhere_ends_without_a_traceback():
    outcome = run("bash", "-c", f"{TRAIN} --help > /dev/full")
    assert (outcome.code, outcome.err) == (0, "")
    outcome = run("bash", "-c", f"{sys.executable} -m dbp inspect nothing 2>&-")
    assert (outcome.code, outcome.text) == (2, "")


def test_what_an_encoding_lacks_is_escaped_and_a_closed_stream_is_no_error():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    write_line(stream, "k\u00f6ln \udcff")
    assert stream.buffer.getvalue() == b"k\\xf6ln \\udcff\n"
    assert encodable("k\u00f6ln", sys.stdout) == "k\u00f6ln"
    stream.close()
    write_line(stream, "nobody reads this")
    write_line(None, "nor this")


def test_control_characters_are_shown_and_not_sent_to_the_terminal():
    shown = "r \U0001f600\xfc\\x1b[31m\\x07\\udcff\ta\nb"
    assert encodable("r \U0001f600\xfc\x1b[31m\x07\udcff\ta\nb", sys.stdout) == shown


def test_a_line_that_a_terminal_is_too_narrow_for_becomes_several():
    row = "epoch 1/9  cost 0.1234  accuracy 0.5000  validation cost 0.1234  validation accuracy 0.5000  9 examples/s"
    shown = lines_of(row, 80).split("\n")
    assert shown == [row[:63].rstrip(), "    validation accuracy 0.5000  9 examples/s"]
    assert lines_of(row, 200) == row
    error = "\ndbp: error: " + "word " * 30 + "a" * 100
    lines = lines_of(error, 80).split("\n")
    assert lines[0] == ""
    assert " ".join(lines).split() == error.split()
    assert max(map(len, lines[:-1])) <= 80
    assert lines_of(f"Traceback\n{error}", 80) == f"Traceback\n{error}"  # as code, or what is to be copied


def test_an_output_is_wrapped_on_a_terminal_where_that_is_asked_for_and_never_elsewhere():
    code = "from dbp.terminal import print_output; print_output('word ' * 30 + 'end\\n' + 'a ' * 60, wrapped={})"
    shown = run_on_terminal(sys.executable, "-c", code.format(True), timeout=30).out.splitlines()
    assert max(map(len, shown)) <= 80
    assert shown[1].startswith("    word")
    assert shown[-1].startswith("    a a")
    assert len(run_on_terminal(sys.executable, "-c", code.format(False), timeout=30).out.splitlines()) == 2
    assert run(sys.executable, "-c", code.format(True)).out.splitlines() == ["word " * 30 + "end", "a " * 60]


def test_a_cell_below_its_line_is_broken_at_spaces_alone():
    name = "a-long-name-" * 8
    assert table([["name", "n"], [f"short {name}", "1"]], left=(0,), below=0) == ["n", "1", "    short", f"    {name}"]


def test_an_error_is_wrapped_on_a_terminal_and_one_line_elsewhere():
    code = "from dbp.terminal import write_error; write_error('word ' * 40 + 'end')"
    shown = run_on_terminal(sys.executable, "-c", code).out.splitlines()
    assert [len(line) > 0 for line in shown] == [True] * 3
    assert max(map(len, shown)) <= 80
    assert run(sys.executable, "-c", code).err == "word " * 40 + "end\n"
