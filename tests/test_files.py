"""Whole files: each kind of file that dbp writes, on a disk that refuses it."""

import errno
import json
import os
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from dbp.data import OutputFile
from dbp.errors import StorageError, UserError
from dbp.files import (
    NewFile,
    must_be_free,
    new_file,
    partial_name,
    process_space,
    reading_from,
    remove_left,
    write_file,
    writing_to,
)
from tests.jobs import ROOT, dbp, run

CALLS = {
    "open": "os.open",
    "flush": "os.fsync",
    "rename": "pathlib.Path.replace",
    "folder": "dbp.files.sync_folder",
}


@pytest.fixture(params=["no name", "a temporary name"])
def way(request, monkeypatch):
    """Have files written without a name, and with a temporary one, as where the system has no others."""
    if request.param == "a temporary name":
        monkeypatch.setattr("dbp.files._unnamed_file", lambda folder: None)
    return request.param


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("call", CALLS)
def test_a_file_whose_writing_fails_leaves_the_old_one(tmp_path, monkeypatch, call):
    path = tmp_path / "x.txt"
    write_file(path, b"old")
    with monkeypatch.context() as patched:
        patched.setattr(CALLS[call], refuse)
        with pytest.raises(
            StorageError, match=r"x.txt cannot be written: No space left .*\(errno 28\); make room"
        ) as e:
            write_file(path, b"new", "; make room")
    assert e.value.reason == "No space left on device (errno 28)"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]
    assert path.read_bytes() == (b"new" if call == "folder" else b"old")
    write_file(path, b"newer")
    assert path.read_bytes() == b"newer"


def refuse(*_arguments, **_options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.usefixtures("way")
def test_an_error_of_the_caller_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.txt"
    write_file(path, b"old")
    with pytest.raises(ZeroDivisionError), new_file(path) as file:
        file.write(b"half" * (1 // 0))
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


@pytest.mark.usefixtures("way")
def test_a_refused_file_is_removed(tmp_path):
    def check(partial):
        assert partial.read_bytes() == b"content"
        raise OSError(None, "it is no good")

    with (
        pytest.raises(StorageError, match=r"x.txt cannot be written: .*it is no good"),
        new_file(tmp_path / "x.txt", check) as file,
    ):
        file.write(b"content")
    assert list(tmp_path.iterdir()) == []


def test_two_who_write_to_one_name_do_not_meet(tmp_path, way):
    path, leftover = tmp_path / "x.txt", partial_name(tmp_path / "x.txt")
    leftover.write_bytes(b"of a killed process")
    first, second = NewFile(path), NewFile(path, replaces=False)
    first.create().write(b"first")
    second.create().write(b"second")
    assert len(list(tmp_path.iterdir())) == (1 if way == "no name" else 3)
    first.commit()
    with pytest.raises(UserError, match=r"x.txt exists; choose another name or pass --overwrite"):
        second.commit()
    second.discard()
    assert sorted(tmp_path.iterdir()) == [leftover, path]
    assert (path.read_bytes(), leftover.read_bytes()) == (b"first", b"of a killed process")


def test_nothing_is_left_of_a_file_whose_process_is_killed(tmp_path):
    program = (
        "import os, sys, pathlib; from dbp.files import NewFile; file = NewFile(pathlib.Path(sys.argv[1])).create(); "
        "file.write(b'half'); file.flush(); os.kill(os.getpid(), 9)"
    )
    assert run(sys.executable, "-c", program, tmp_path / "x.h5").code == -9
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_gives_no_names_gets_a_copy(tmp_path, monkeypatch):
    monkeypatch.setattr("os.link", refuse)
    write_file(tmp_path / "x.txt", b"content")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"content"]


def test_an_output_removes_what_killed_processes_have_left(tmp_path):
    """Keep those of living processes, other hosts and other names."""
    gone = 1 << 30  # the number of no process, as Linux has at most 2^22
    left = [f".out.h5.{process_space()}-{gone}-{number}.partial" for number in range(2)]
    others = [partial_name(tmp_path / "out.h5").name, f".out.h5.00000000-{gone}-0.partial", left[0].replace("out", "b")]
    for name in (*left, *others):
        (tmp_path / name).write_text("half")
    remove_left(tmp_path / "out.h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


@pytest.mark.parametrize("links", [True, False])
def test_a_name_that_is_free_is_taken_with_and_without_links(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    write_file(tmp_path / "x.txt", b"mine", replaces=False)
    with pytest.raises(UserError, match=r"x.txt exists"):
        write_file(tmp_path / "x.txt", b"other", replaces=False)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"mine"]


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127])
def test_a_long_name_is_a_name(tmp_path, name):
    write_file(tmp_path / name, b"")
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_file_that_is_read_is_not_replaced(tmp_path):
    data, link = tmp_path / "data.h5", tmp_path / "link.h5"
    data.write_bytes(b"data")
    link.symlink_to(data)
    (tmp_path / "hard.h5").hardlink_to(data)
    for out in (data, link, tmp_path / "hard.h5", tmp_path / "." / "data.h5"):
        with pytest.raises(UserError, match=f"{out} is {data}, an input of this command; choose another name"):
            must_be_free(out, overwrite=True, read=[tmp_path / "none", data])
    must_be_free(tmp_path / "other.h5", overwrite=True, read=[data])
    for device in (Path("/dev/null"), tmp_path):
        with pytest.raises(UserError, match=f"{device} is not a plain file, and cannot be replaced"):
            must_be_free(device, overwrite=True)


def test_a_missing_file_is_the_users_mistake_and_a_failing_disk_is_not():
    with pytest.raises(UserError, match="config x cannot be read: No such file") as missing, reading_from("config x"):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    told = r"x cannot be read: Input/output error \(errno 5\)$"
    with pytest.raises(StorageError, match=told) as failed, reading_from("x"):
        raise OSError(errno.EIO, "as HDF5 tells it, in many words")
    assert (missing.value.exit_code, failed.value.exit_code) == (2, 74)


def test_a_storage_error_passes_through_another():
    with pytest.raises(StorageError, match=r"^inner$"), writing_to("outer"):
        raise StorageError("inner")


# --- HDF5 files of results ----------------------------------------------------------------------------


def test_results_come_in_rows_or_in_whole_arrays(tmp_path):
    rows, whole = np.arange(12.0).reshape(6, 2), {"a/b": np.arange(5, dtype=np.int8), "c": np.float32([3])}
    with OutputFile(tmp_path / "rows.h5", overwrite=False) as file:
        file.create()
        for start in (4, 0, 2):
            file.write_rows({"x": rows[start : start + 2], "y": rows[start : start + 2, 0]}, start, len(rows), {})
        file.commit()
    with OutputFile(tmp_path / "whole.h5", overwrite=False) as file:
        file.create()
        file.write_all(whole, {"/": {"cost": 0.5}, "c": {"k": 1}})
        file.commit()
    with h5py.File(tmp_path / "rows.h5") as x, h5py.File(tmp_path / "whole.h5") as y:
        np.testing.assert_array_equal(x["x"], rows)
        np.testing.assert_array_equal(x["y"], rows[:, 0])
        assert (y["a/b"][:].tolist(), y["c"][0], y.attrs["cost"], y["c"].attrs["k"]) == ([0, 1, 2, 3, 4], 3, 0.5, 1)


def test_results_that_are_not_finished_are_discarded(tmp_path):
    with OutputFile(tmp_path / "x.h5", overwrite=False) as file:
        file.create()
        file.write_rows({"x": np.ones(3)}, 0, 6, {})
    assert list(tmp_path.iterdir()) == []


# --- every kind of file, in a process that may write no more than a kilobyte to a file ----------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    (folder / "config.toml").write_text(
        'loss = "cross_entropy"\nepochs = 1\nbatch_size = 300\nout = "run"\n[data]\ntrain = "dbp:digits-train"\n'
        '[model]\nlayers = [{ kind = "flatten" }, { kind = "dense", units = 30 }, { kind = "dense", units = 10 }]\n'
        '[optimizer]\nkind = "adam"\n'
    )
    np.savez(folder / "data.npz", inputs=np.ones((40, 30)), targets=np.arange(40))
    outcome = dbp("train", "config.toml", cwd=folder)
    assert outcome.code == 0, outcome.text
    assert dbp("export", "run", "weights.npz", cwd=folder).code == 0
    return folder


KINDS = {
    "data": ("convert", "npz", "data.npz", "out/x.h5"),
    "predictions": ("predict", "run", "dbp:digits-test", "out/x.h5"),
    "figures of neurons": ("neurons", "run", "dbp:digits-test", "--out", "out/x.h5"),
    "weights of NumPy": ("export", "run", "out/x.npz"),
    "weights of safetensors": ("export", "run", "out/x.safetensors"),
    "ONNX model": ("export", "run", "out/x.onnx"),
    "imported checkpoint": ("import", "weights.npz", "config.toml", "out/x.h5"),
    "job script": ("submit", "config.toml", "--scheduler", "mpirun", "--set", 'out="out"'),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_refuses_is_exit_code_74_and_nothing_is_left(trained, kind):
    (trained / "out").mkdir(exist_ok=True)
    words = " ".join(f"'{word}'" for word in KINDS[kind])
    start = f"ulimit -f 1; exec {sys.executable} -B -m dbp {words}"  # -B: or Python's cache would be cut off too
    outcome = run("bash", "-c", start, cwd=trained)
    assert (outcome.code, outcome.out) == (74, ""), outcome.text
    last_line = outcome.err.splitlines()[-1]  # Open MPI may complain before of files of its own
    assert last_line.startswith("dbp: error: out/")
    assert "cannot be written: File too large (errno 27)" in last_line
    assert "Traceback" not in outcome.err
    assert [p.name for p in (trained / "out").iterdir()] == []


def test_side_files_that_cannot_be_written_are_warned_of(trained, tmp_path):
    """The state itself is saved where the disk takes it: beside it the history stays as it was."""
    folder = tmp_path / "run"
    (folder / "history.csv").mkdir(parents=True)
    (folder / "timing.csv").mkdir()
    outcome = dbp("train", trained / "config.toml", "--out", folder)
    assert outcome.code == 0, outcome.text
    assert outcome.out.count("history.csv cannot be written: Is a directory (errno 21); the checkpoint itself") == 1
    assert outcome.out.count("warning: ") == 2
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    assert [p.name for p in folder.glob(".*.partial")] == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no disk that is always full")  # noqa: PTH110
@pytest.mark.parametrize("command", ["summary examples/digits.toml", "inspect"])
def test_an_output_on_a_full_disk_ends_with_the_code_of_storage_errors(small, tmp_path, command):
    if command == "inspect":
        assert dbp("train", small, "--set", "epochs=1").code == 0
        command = f"inspect {tmp_path}/run"
    outcome = run("bash", "-c", f"{sys.executable} -m dbp {command} >/dev/full", cwd=ROOT)
    assert outcome.code == 74
    assert outcome.err == "dbp: error: the standard output cannot be written: No space left on device (errno 28)\n"


def test_an_output_that_nobody_reads_ends_without_a_word():
    outcome = run("bash", "-c", f"{sys.executable} -m dbp summary examples/digits.toml | true", cwd=ROOT)
    assert outcome.text == ""
