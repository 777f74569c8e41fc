"""Where a process runs: lists of cores, control groups of both versions, hardware threads, and what is left."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbp.parallel import Place, usable_cores
from dbp.parallel.machine import cores, limits


@given(st.frozensets(st.integers(0, 40)))
def test_lists_of_numbers_there_and_back(found):
    assert cores.numbers(cores.numbers_text(found)) == found


def test_lists_are_written_as_linux_writes_them():
    assert cores.numbers_text([8, 0, 2, 1, 3]) == "0-3,8"
    assert cores.numbers("0-3,8") == {0, 1, 2, 3, 8}
    assert cores.numbers_text([]) == ""


def system(folder, groups, **files):
    """A root file system with these groups of this process; in the files' names two underlines stand for a slash."""
    files = {name.replace("__", "/"): text for name, text in files.items()}
    for name, text in ({"proc/self/cgroup": groups} | {f"sys/fs/cgroup/{k}": v for k, v in files.items()}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_the_smallest_quota_of_all_groups_counts(tmp_path):
    files = {"job__cpu.max": "250000 100000\n", "job__step__cpu.max": "max 100000\n", "cpu.max": "max 100000\n"}
    root = system(tmp_path, "0::/job/step\n", **files)
    assert limits.processor_limit(root) == 2.5


def test_a_group_named_as_outside_of_the_container_is_the_topmost_folder(tmp_path):
    root = system(tmp_path, "0::/docker/0123\n", **{"cpu.max": "150000 100000\n"})
    assert limits.processor_limit(root) == 1.5


def test_groups_of_the_first_version(tmp_path):
    groups = "5:memory:/job\n4:cpuset:/job\n3:cpuacct,cpu:/job\n"
    folder = "cpuacct,cpu__job__"
    files = {f"{folder}cpu.cfs_quota_us": "300000\n", f"{folder}cpu.cfs_period_us": "100000\n"}
    files |= {"cpuset__job__cpuset.cpus": "2-5\n", "memory__job__memory.limit_in_bytes": "5000\n"}
    files |= {"memory__job__memory.usage_in_bytes": "3000\n", "memory__job__memory.stat": "total_inactive_file 500\n"}
    root = system(tmp_path, groups, **files)
    assert limits.processor_limit(root) == 3
    assert limits.allowed_cpus(root) == "2-5"
    assert limits.available_memory(root) == 2500


def test_memory_is_what_the_machine_or_the_group_has_left(tmp_path):
    files = {"job__memory.max": "9000\n", "job__memory.current": "4000\n", "job__memory.stat": "inactive_file 1000\n"}
    root = system(tmp_path, "0::/job\n", **files)
    assert limits.available_memory(root) == 6000
    (root / "proc/meminfo").write_text("MemTotal: 99 kB\nMemAvailable:   5 kB\n")
    assert limits.available_memory(root) == 5120


@pytest.mark.parametrize("groups", ["0::/\n", "3:cpu:/job\n"])
def test_without_limits_there_are_none(tmp_path, groups):
    root = system(tmp_path, groups, **{"cpu__job__cpu.cfs_quota_us": "-1\n", "cpu__job__cpu.cfs_period_us": "100000\n"})
    assert limits.processor_limit(root) is None
    assert limits.allowed_cpus(root) == ""
    assert limits.available_memory(root) is None


def test_hardware_threads_of_a_core_count_once(tmp_path, monkeypatch):
    for thread in range(8):
        folder = tmp_path / f"cpu{thread}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{thread % 4},{thread % 4 + 4}\n")
    (tmp_path / "online").write_text("0-7\n")
    monkeypatch.setattr(cores, "PROCESSORS", tmp_path)
    monkeypatch.setattr(cores, "allowed_cpus", lambda: "0-6")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 2, 5}, raising=False)
    monkeypatch.setattr(cores, "processor_limit", lambda: None)
    assert usable_cores() == 2
    place = Place.here()
    assert (place.pinned, place.allowed) == ("1-2", "0-3")
    monkeypatch.setattr(cores, "processor_limit", lambda: 1.9)
    assert usable_cores() == 1


def test_a_limit_leaves_at_least_one_core():
    assert [cores.within(limit, 8) for limit in (None, 0.5, 2.7, 99.0)] == [8, 1, 2, 8]
