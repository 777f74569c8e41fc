"""The log of each rank in a run's folder: its lines, when it is created, and that it never ends a run."""

import errno
import os
import re

import pytest

from dbp.log import RunLog
from tests.jobs import PROGRAMS, dbp, digest, mpirun, slow

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00 (.*)")
TRAIN = ("-m", "dbp", "train")


def logs(folder):
    """Return the lines of each file, without times."""
    return {path.name: [told(line) for line in path.read_text().splitlines()] for path in (folder / "logs").iterdir()}


def told(line):
    match = LINE.fullmatch(line)
    return match.group(1) if match else line


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, *slow(3)])
def test_the_first_rank_keeps_what_it_shows_and_goes_on_where_it_ended(small, tmp_path, ranks):
    first = mpirun(ranks, *TRAIN, small)
    assert first.code == 0, first.text
    (name, lines), *rest = logs(tmp_path / "run").items()
    assert (name, rest) == ("rank-0.log", [])
    assert re.fullmatch(rf"--- started: rank 0 of {ranks}, host \S+, process \d+", lines[0])
    assert lines[1:] == first.out.splitlines()
    second = mpirun(ranks, *TRAIN, small, "--set", "epochs=3", "--accept", "epochs")
    assert second.code == 0, second.text
    again = logs(tmp_path / "run")["rank-0.log"]
    assert again[: len(lines)] == lines
    assert again[len(lines)].startswith(f"--- started again: rank 0 of {ranks}, ")
    assert again[len(lines) + 1 :] == second.out.splitlines()
    assert any(line.startswith("resumed from ") for line in again)


@pytest.mark.slow
def test_it_is_kept_of_a_quiet_run_too(tmp_path):
    outcome = mpirun(2, PROGRAMS / "failing_training.py", -1, 10**9, "raise", "--out", tmp_path / "run")
    assert (outcome.code, outcome.out) == (0, ""), outcome.text
    assert any(line.startswith("finished: ") for line in logs(tmp_path / "run")["rank-0.log"])


@pytest.mark.parametrize(("ranks", "failing"), [(1, 0), *slow((3, 0), (3, 2))])
def test_a_rank_that_fails_keeps_its_traceback(tmp_path, ranks, failing):
    outcome = mpirun(ranks, PROGRAMS / "failing_training.py", failing, 20, "raise", "--out", tmp_path / "run")
    assert outcome.code != 0
    found = logs(tmp_path / "run")
    assert found.keys() == {"rank-0.log", f"rank-{failing}.log"}
    lines = found[f"rank-{failing}.log"]
    assert lines[0].startswith(f"--- started: rank {failing} of {ranks}, ")
    assert lines.count("Traceback (most recent call last):") == 1
    assert lines.count("ZeroDivisionError: the model failed") == 1
    assert ("; all ranks end" in lines[-1]) == (ranks > 1)


@pytest.mark.slow
def test_a_mistake_that_one_rank_meets_is_in_its_log(tmp_path):
    outcome = mpirun(3, PROGRAMS / "failing_training.py", 1, 20, "user", "--out", tmp_path / "run")
    assert outcome.code == 2
    lines = logs(tmp_path / "run")["rank-1.log"]
    assert len(lines) == 2
    assert lines[1].endswith("found on one rank only")
    assert lines[1].startswith("dbp: error: rank 1 of 3 on ")


@pytest.mark.slow
def test_a_run_that_is_refused_writes_nothing(small, tmp_path):
    outcome = mpirun(2, *TRAIN, small, "--set", "data.inputs=none")
    assert outcome.code == 2
    assert not (tmp_path / "run").exists()
    assert dbp("train", small).code == 0
    before = (tmp_path / "run" / "logs" / "rank-0.log").read_bytes()
    other = mpirun(2, *TRAIN, small, "--set", "batch_size=20")
    assert other.code == 2
    assert "is of another run" in other.err
    assert (tmp_path / "run" / "logs" / "rank-0.log").read_bytes() == before


@pytest.mark.slow
def test_logs_that_cannot_be_written_are_told_once_and_end_nothing(small, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "logs").write_text("a file, where a folder should be")
    outcome = dbp("train", small)
    assert outcome.code == 0, outcome.text
    assert outcome.err.count("rank-0.log cannot be written: Not a directory") == outcome.err.count("\n") == 1
    assert dbp("train", small, "--out", tmp_path / "other").code == 0
    assert digest(tmp_path / "run") == digest(tmp_path / "other")


def test_lines_wait_until_the_run_begins_and_belong_to_no_run_after_it(tmp_path, capsys):
    log, file = RunLog(), tmp_path / "logs" / "rank-1.log"
    log.write("of no run")
    log.start(folder=True)
    log.write("of a run that was refused")
    log.start(folder=False)
    log.write("of a run without a folder")
    log.start(folder=True)
    log.write("first")
    assert list(tmp_path.iterdir()) == []
    log.open(tmp_path, 1, 2, {"host": "h"})
    log.write("second\nand third")
    log.close()
    log.write("after it")
    assert [told(line) for line in file.read_text().splitlines()] == [
        "--- started: rank 1 of 2, host h",
        "first",
        "second",
        "and third",
    ]
    log.start(folder=True)
    log.open(tmp_path / "missing", 1, 2, {})
    log.write("to a disk that is not there")
    log.write("nor now")
    assert capsys.readouterr().err.count("cannot be written: No such file or directory (errno 2)") == 1
    assert not (tmp_path / "missing").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no disk that is always full")  # noqa: PTH110
def test_a_full_disk_ends_nothing_and_is_told_once(tmp_path, capsys, monkeypatch):
    def refuse(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", refuse)
    log = RunLog()
    log.start(folder=True)
    log.open(tmp_path, 0, 1, {})
    for _ in range(3):
        log.write("a line")
    assert capsys.readouterr().err.count("No space left on device") == 1
