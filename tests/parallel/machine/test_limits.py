"""Limits of cores and memory: control groups of both versions, and what is left."""

import pytest

from dbp.errors import UserError
from dbp.parallel import OneProcess, check_memory, keep_freed_memory
from dbp.parallel.machine import limits


def test_freed_memory_can_be_kept_or_the_system_has_no_glibc():
    assert keep_freed_memory() in (True, False)


def test_a_run_that_cannot_fit_in_memory_is_refused():
    check_memory(OneProcess(), once=1 << 20, each=1 << 20)
    with pytest.raises(
        UserError, match=r"do not fit in memory: .* MB, but needs 1,152,921,504,607; take more nodes"
    ) as caught:
        check_memory(OneProcess(), once=1 << 59, each=1 << 59)
    assert caught.value.on_all_ranks


def system(folder, groups, **files):
    """Write a root file system with this process in the given groups; `__` in a file's name stands for a slash."""
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
