"""The limits of this process on Linux: processor time, cores and memory, as containers and batch systems set them.

A limit may stand in the control group of the process or in any group above it, in files of version 1 or version 2 of
control groups. All functions take the root of the file system, so that tests can replace it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def read_words(path: Path) -> list[str]:
    """Return the words in a small file, or [] if it cannot be read."""
    try:
        return path.read_text().split()
    except OSError:
        return []


def _folders(controller: str, root: Path) -> Iterator[Path]:
    """Yield the folders of this process's control groups: its own first, then the groups above."""
    mounted = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":  # version 2
            bases = [mounted, mounted / "unified"]
        elif controller in controllers.split(","):
            bases = [mounted / controller, mounted / controllers]
        else:
            continue
        path = Path(group.lstrip("/"))
        for base in bases:
            # In a container, the name may be the one outside of it: then only the topmost folder exists.
            yield from (folder for part in (path, *path.parents) if (folder := base / part).is_dir())


def processor_limit(root: Path = ROOT) -> float | None:
    """Return the processor time, in processors, that the control group may use; None without a limit."""
    limits = []
    for folder in dict.fromkeys(_folders("cpu", root)):
        words = read_words(folder / "cpu.max")
        words = words or read_words(folder / "cpu.cfs_quota_us") + read_words(folder / "cpu.cfs_period_us")
        if len(words) == 2 and words[0] not in ("max", "-1"):
            limits.append(int(words[0]) / int(words[1]))
    return min(limits, default=None)


def allowed_cpus(root: Path = ROOT) -> str:
    """Return the list of processors that the control group may use, such as "0-3,8"; "" without a limit."""
    for folder in _folders("cpuset", root):
        for name in ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"):
            if words := read_words(folder / name):
                return words[0]
    return ""


def available_memory(root: Path = ROOT) -> int | None:
    """Return how many bytes this process can still allocate; None where that is not known."""
    bounds = []
    words = read_words(root / "proc/meminfo")
    if "MemAvailable:" in words:
        bounds.append(1024 * int(words[words.index("MemAvailable:") + 1]))
    for folder in dict.fromkeys(_folders("memory", root)):
        for limit, used, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            words = read_words(folder / limit) + read_words(folder / used)
            if len(words) == 2 and words[0] != "max":
                statistics = read_words(folder / "memory.stat")
                freed = int(statistics[statistics.index(cache) + 1]) if cache in statistics else 0
                bounds.append(int(words[0]) - int(words[1]) + freed)
    return max(0, min(bounds)) if bounds else None
