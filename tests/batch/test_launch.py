"""Where ranks are started, and with what: the MPI library, its variables, and what a job shows and leaves."""

import os
import sys
from pathlib import Path

import pytest

from dbp.batch import launch
from dbp.batch.launch import _environment, _for_one_machine, library_vendor
from tests.jobs import dbp
from tests.launcher import LAUNCHER_SETTINGS
from tests.processes import ProcessTree, wait_until

LOCAL = ("0100007F", "00000000000000000000000001000000")  # 127.0.0.1 and ::1, as Linux writes them


def test_lines_that_a_library_prints_do_not_hide_the_mpi_library(tmp_path, monkeypatch):
    found = library_vendor()
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.stdout.write('[1.5] UCX WARN\\n12 monkeys')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert library_vendor() == found


def test_tcp_is_left_out_where_shared_memory_suffices(monkeypatch):
    monkeypatch.setattr(launch, "free_shared_memory", lambda: 3 << 24)
    assert _for_one_machine("Open MPI", 2, False, "/dev/shm/x")["OMPI_MCA_btl"] == "^ofi,tcp"
    for ranks, survive, folder in (3, False, "/dev/shm/x"), (2, True, "/dev/shm/x"), (2, False, ""):
        found = _for_one_machine("Open MPI", ranks, survive, folder)
        assert found["OMPI_MCA_btl"] == "^ofi"
        assert found["OMPI_MCA_btl_tcp_if_include"] == "127.0.0.0/8"
        assert found.get("OMPI_MCA_btl_sm_backing_directory", "") == folder
    assert not any(name.startswith("OMPI") for name in _for_one_machine("MPICH", 2, False, ""))


def test_ranks_have_huge_pages_unless_the_user_sets_the_c_library(monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    assert _environment("MPICH", False, 1)["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=0")
    assert _environment("MPICH", False, 1)["GLIBC_TUNABLES"] == "glibc.malloc.check=0"


def listening(process):
    """Return the addresses, other than those of loopback, at which a process listens."""
    sockets = {str(path.readlink()) for path in Path(f"/proc/{process}/fd").iterdir() if path.is_symlink()}
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    mine = [row for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]
    return [row[1] for row in mine if not row[1].startswith(LOCAL)]


def named_segments(process):
    """Return the files of Open MPI that a process maps and that would stay if it were killed."""
    maps = Path(f"/proc/{process}/maps").read_text().splitlines()
    segments = [line for line in maps if "/sm_segment." in line]
    assert segments, "Open MPI does not share memory, or under another name"
    return [line for line in segments if not line.endswith(" (deleted)")]


@pytest.mark.slow
def test_ranks_of_one_machine_do_not_listen_on_the_network_and_end_with_dbp_run(small, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name not in LAUNCHER_SETTINGS}
    command = [sys.executable, "-m", "dbp", "run", "-n", "2", "--", "train", small, "--set", "epochs=100000"]
    with ProcessTree(*command, env=environment) as tree:
        assert wait_until(lambda: " 2/100000  " in tree.out), tree.err
        ranks = tree.ranks()
        assert [listening(rank) for rank in ranks] == [[], []]
        assert [segment for rank in ranks for segment in named_segments(rank)] == []
        tree.process.kill()
        assert wait_until(lambda: not tree.processes())
    assert dbp("status", tmp_path / "run", "--quiet").code == 75
