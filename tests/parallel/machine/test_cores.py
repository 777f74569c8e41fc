"""Cores of this process: lists as Linux writes them, hardware threads, and limits."""

import os

from hypothesis import given
from hypothesis import strategies as st

from dbp.parallel import CpuBinding, usable_cores
from dbp.parallel.machine import cores


@given(st.frozensets(st.integers(0, 40)))
def test_lists_of_numbers_there_and_back(found):
    assert cores.parse_cpu_list(cores.format_cpu_list(found)) == found


def test_lists_are_written_as_linux_writes_them():
    assert cores.format_cpu_list([8, 0, 2, 1, 3]) == "0-3,8"
    assert cores.parse_cpu_list("0-3,8") == {0, 1, 2, 3, 8}
    assert cores.format_cpu_list([]) == ""


def test_hardware_threads_of_a_core_count_once(tmp_path, monkeypatch):
    for thread in range(8):
        folder = tmp_path / f"cpu{thread}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{thread % 4},{thread % 4 + 4}\n")
    (tmp_path / "online").write_text("0-7\n")
    monkeypatch.setattr(cores, "CPU_FOLDER", tmp_path)
    monkeypatch.setattr(cores, "allowed_cpus", lambda: "0-6")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 2, 5}, raising=False)
    monkeypatch.setattr(cores, "processor_limit", lambda: None)
    assert usable_cores() == 2
    binding = CpuBinding.current()
    assert (binding.pinned, binding.allowed) == ("1-2", "0-3")
    monkeypatch.setattr(cores, "processor_limit", lambda: 1.9)
    assert usable_cores() == 1


def test_a_limit_leaves_at_least_one_core():
    assert [cores.limit_cores(limit, 8) for limit in (None, 0.5, 2.7, 99.0)] == [8, 1, 2, 8]
