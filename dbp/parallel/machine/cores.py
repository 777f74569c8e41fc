"""The CPU cores of this process: those it may use on its machine, and those it is pinned to.

A core is named by the lowest number of its hardware threads. All of its hardware threads count as one core, because
one thread of a matrix product keeps a core busy.
"""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dbp.parallel.machine.limits import allowed_cpus, processor_limit, read_words

CPU_FOLDER = Path("/sys/devices/system/cpu")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # differs between machines with the same name


def parse_cpu_list(text: str) -> frozenset[int]:
    """Return the numbers in a list as Linux writes it, such as "0-3,8"."""
    numbers: set[int] = set()
    for item in text.split(",") if text else []:
        first, _, last = item.partition("-")
        numbers |= set(range(int(first), int(last or first) + 1))
    return frozenset(numbers)


def format_cpu_list(numbers: Iterable[int]) -> str:
    """Return numbers as a list such as "0-3,8"."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


def _online() -> frozenset[int]:
    words = read_words(CPU_FOLDER / "online")
    return parse_cpu_list(words[0]) if words else frozenset(range(os.cpu_count() or 1))


def hardware_threads() -> frozenset[int]:
    """Return the numbers of the hardware threads in this process's affinity mask."""
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _online()  # only Linux has it


def _core_of(thread: int) -> int:
    words = read_words(CPU_FOLDER / f"cpu{thread}/topology/thread_siblings_list")
    return min(parse_cpu_list(words[0])) if words else thread


def _cores_of(threads: Iterable[int]) -> frozenset[int]:
    return frozenset(map(_core_of, threads))


def limit_cores(limit: float | None, cores: int) -> int:
    """Return a number of cores, reduced to what a limit of processor time allows; at least one."""
    return cores if limit is None else max(1, min(cores, int(limit)))


def pinned_cores() -> frozenset[int]:
    """Return the cores in this process's affinity mask."""
    return _cores_of(hardware_threads())


def usable_cores() -> int:
    """Return how many cores this process may use, given its affinity mask and the limit of processor time."""
    return limit_cores(processor_limit(), len(pinned_cores()))


def available_cores() -> int:
    """Return how many cores all processes of this job could use on this machine if none of them were pinned."""
    return limit_cores(processor_limit(), len(_cores_of(_allowed())))


def _allowed() -> frozenset[int]:
    group = parse_cpu_list(allowed_cpus())
    return (_online() & group if group else _online()) | hardware_threads()


@dataclass(frozen=True)
class CpuBinding:
    """The machine and the cores of one rank; a few bytes, because those of thousands of ranks are gathered.

    Args:
        host: name of the machine.
        boot: boot id of the machine, which differs between machines with the same name.
        pinned: list of the cores that the rank is pinned to.
        allowed: list of the cores that the rank could use if it were not pinned.
        limit: processor time that all ranks on the machine may use together, in processors; None without a limit.
    """

    host: str
    boot: str
    pinned: str
    allowed: str
    limit: float | None

    @classmethod
    def current(cls) -> CpuBinding:
        """Return the binding of this process."""
        pinned, allowed = hardware_threads(), _allowed()
        core = {thread: _core_of(thread) for thread in allowed}
        return cls(
            socket.gethostname(),
            "".join(read_words(BOOT_ID)),
            format_cpu_list(core[thread] for thread in pinned),
            format_cpu_list(core.values()),
            processor_limit(),
        )


def processor() -> str:
    """Return the processor's model name. Bits may differ between models."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
