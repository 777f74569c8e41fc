"""Where a process runs: its machine, the cores it may use there, and those that it is pinned to.

Cores are named by the lowest number of their hardware threads, which count once, as one thread of a matrix
product keeps all of a core busy.
"""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dbp.parallel.machine.limits import allowed_cpus, processor_limit, read_words

PROCESSORS = Path("/sys/devices/system/cpu")
BOOT = Path("/proc/sys/kernel/random/boot_id")  # tells apart machines of one name


def numbers(text: str) -> frozenset[int]:
    """The numbers in a list as Linux writes them: 0-3,8."""
    found: set[int] = set()
    for piece in text.split(",") if text else []:
        first, _, last = piece.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return frozenset(found)


def numbers_text(found: Iterable[int]) -> str:
    """The list of these numbers."""
    runs: list[list[int]] = []
    for number in sorted(set(found)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


def _online() -> frozenset[int]:
    words = read_words(PROCESSORS / "online")
    return numbers(words[0]) if words else frozenset(range(os.cpu_count() or 1))


def _pinned() -> frozenset[int]:
    """The hardware threads that this process may use as it was started."""
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _online()  # only Linux has it


def _core_of(thread: int) -> int:
    words = read_words(PROCESSORS / f"cpu{thread}/topology/thread_siblings_list")
    return min(numbers(words[0])) if words else thread


def _cores_of(threads: Iterable[int]) -> frozenset[int]:
    return frozenset(map(_core_of, threads))


def within(limit: float | None, cores: int) -> int:
    """So many cores, or as many as a limit of processor time allows, and at least one."""
    return cores if limit is None else max(1, min(cores, int(limit)))


def pinned_cores() -> frozenset[int]:
    """Return the cores that this process may use as it was started."""
    return _cores_of(_pinned())


def usable_cores() -> int:
    """Return how many cores this process may use as it was started."""
    return within(processor_limit(), len(pinned_cores()))


def available_cores() -> int:
    """Return how many cores all processes of this job may use on this machine, were none of them pinned."""
    return within(processor_limit(), len(_cores_of(_allowed())))


def _allowed() -> frozenset[int]:
    group = numbers(allowed_cpus())
    return (_online() & group if group else _online()) | _pinned()


@dataclass(frozen=True)
class Place:
    """Where a rank runs, in few bytes, as the places of thousands are gathered.

    Args:
        host: name of the machine.
        boot: tells apart machines of one name.
        pinned: the list of cores that the rank may use as it was started.
        allowed: the list of cores that a rank could use there if it were not pinned.
        limit: of processor time, in processors, for all ranks there together.
    """

    host: str
    boot: str
    pinned: str
    allowed: str
    limit: float | None

    @classmethod
    def here(cls) -> Place:
        """That of this process."""
        pinned, allowed = _pinned(), _allowed()
        core = {thread: _core_of(thread) for thread in allowed}
        return cls(
            socket.gethostname(),
            "".join(read_words(BOOT)),
            numbers_text(core[thread] for thread in pinned),
            numbers_text(core.values()),
            processor_limit(),
        )


def processor() -> str:
    """The kind of processor, which bits may depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
