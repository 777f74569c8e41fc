"""Notes of a process, which others read."""

import os
import sys

from dbp.process.note import ProcessNote, notes, read_note
from tests.processes import output_of


def test_another_process_reads_the_last_text_until_this_one_lets_go_of_it():
    note = ProcessNote("dbp test of notes")
    note.write("a long first text")
    note.write("second")
    program = "import sys; from dbp.process.note import *; print(read_note(sys.argv[1]), *notes(sys.argv[2]))"
    assert output_of(sys.executable, "-c", program, note.path, note.title) == "second second\n"
    assert list(notes("dbp another")) == []


def test_what_is_no_note_is_not_read(tmp_path):
    (tmp_path / "fifo").touch()
    pipe, _end = os.pipe()
    for path in ("", "/proc/1/fd/999", str(tmp_path / "fifo"), f"/proc/{os.getpid()}/fd/{pipe}"):
        assert read_note(path) == ""
