"""Files that are appended to: cut, and left as they were if the disk fails."""

import os

import pytest

from dbp.errors import StorageError
from dbp.listeners.appended_file import AppendedFile


def whole(lines):
    return ((line, line.endswith(b"\n") and line != b"b\n") for line in lines)


def test_records_that_do_not_stay_are_removed(tmp_path):
    file = AppendedFile(tmp_path / "folder" / "log")
    file.keep(whole)
    assert not file.path.parent.exists()
    for record in (b"a\n", b"b\n", b"c\n", b"broken"):
        file.append(record)
    file.keep(whole)
    file.append(b"d\n")
    file.close()
    assert file.path.read_bytes() == b"a\nc\nd\n"
    inode = file.path.stat().st_ino
    file.keep(whole)
    assert file.path.stat().st_ino == inode  # nothing to remove, nothing written


def test_a_disk_that_takes_a_part_of_a_record_leaves_nothing_of_it(tmp_path, monkeypatch):
    file, write = AppendedFile(tmp_path / "log"), os.write
    file.append(b"first\n")
    monkeypatch.setattr(os, "write", lambda descriptor, record: write(descriptor, record[:3]))
    with pytest.raises(StorageError, match=r"log cannot be written: 3 of 7 bytes were"):
        file.append(b"second\n")
    monkeypatch.setattr(os, "write", write)
    file.append(b"third\n")
    assert file.path.read_bytes() == b"first\nthird\n"


def test_no_link_is_followed(tmp_path):
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "log").symlink_to("theirs")
    file = AppendedFile(tmp_path / "log")
    for act in (lambda: file.append(b"x"), lambda: file.keep(whole)):
        with pytest.raises(StorageError, match="must be a plain file"):
            act()
    assert (tmp_path / "theirs").read_text() == "theirs"
