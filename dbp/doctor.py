"""dbp doctor: what ranks run on, whether they can train there, how fast, and what to mend."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import dbp
from dbp.errors import UsageError, UserError
from dbp.parallel import (
    HOW_TO_GET_MPI,
    Communicator,
    Node,
    blas_threads,
    communicator_for_errors,
    complaints,
    hints,
    launched_by_mpi,
    nodes_of,
    processor,
    threads_for,
    together,
    trials,
    world,
)
from dbp.parallel.limits import available_memory
from dbp.parallel.nodes import counted, ranks_text
from dbp.parallel.shared import SHARED_MEMORY, free_shared_memory
from dbp.text import WIDTH, size, table

AUTO = "auto"
UNUSABLE = "not usable"
LITTLE = 1e9  # bytes of shared memory that are not enough for models of some size
CORE_TYPE = "OPENBLAS_CORETYPE"
BITS = ("BLAS", "processor")  # where ranks may differ, but for the promise of equal bits


def doctor(threads: str) -> int:
    """Examine the ranks of this job, print what was found, and give the exit code; collective.

    Args:
        threads: of a rank, a number or "auto", as in the settings of a run.
    """
    number = _number(threads)
    comm, mistake = _ranks()
    with together(comm):
        report = _examine(comm, number, mistake)
        if comm.rank == 0:
            sys.stdout.write(f"{report}\n")
            sys.stdout.flush()
        comm.gather(None)  # a launcher may end the others as soon as one has left
    if mistake is not None and comm.rank > 0:
        time.sleep(1)  # for the same reason, where ranks do not know of each other
    return 2 if report.serious else 0


def _number(threads: str) -> int | None:
    """None for as many as there are cores for."""
    if threads == AUTO:
        return None
    if not threads.isdecimal() or int(threads) < 1:
        raise UsageError(f"--threads must be a whole number from 1, or {AUTO}, but is {threads!r}")
    return int(threads)


def _ranks() -> tuple[Communicator, UserError | None]:
    """The ranks, or this process alone and why it cannot be one of them."""
    try:
        return world(), None
    except UserError as error:
        return communicator_for_errors(), error


# --- facts ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """What one rank knows of itself; everything but memory should be the same on all."""

    versions: Mapping[str, str]
    processor: str
    memory: int | None  # bytes that it can still have
    shared: int | None  # bytes that it can still share
    core_type: str  # that OpenBLAS is told to take the processor for, if any
    load: float  # programs that ran on the node, on average over the last minute

    @classmethod
    def here(cls, blas: str) -> Facts:
        """Those of this process."""
        versions, core_type = _versions() | {"BLAS": blas}, os.environ.get(CORE_TYPE, "")
        load = os.getloadavg()[0]
        return cls(versions, processor(), available_memory(), free_shared_memory(), core_type, load)


def _versions() -> dict[str, str]:
    versions = {"dbp": dbp.__version__, "Python": platform.python_version(), "NumPy": np.__version__}
    try:
        versions["mpi4py"] = importlib.metadata.version("mpi4py")
    except importlib.metadata.PackageNotFoundError:
        versions["mpi4py"] = "not installed"
    try:
        from dbp.data.hdf5 import versions as hdf5_versions

        versions["h5py"], versions["HDF5"] = hdf5_versions()
    except ImportError as error:
        versions["h5py"] = f"{UNUSABLE} ({error})"
    return versions


def _mpi_library() -> str:
    """The file of the MPI library that this process has loaded (Linux)."""
    try:
        words = Path("/proc/self/maps").read_text().split()
    except OSError:
        return ""
    return next((word for word in words if Path(word).name.startswith(("libmpi.", "libmpich.", "libmpi_"))), "")


# --- the report -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Report:
    """Lines of facts, what keeps ranks from training, what slows them down, and what could be better."""

    lines: Sequence[str]
    serious: Sequence[str]
    slow: Sequence[str]
    better: Sequence[str]

    def __str__(self) -> str:
        problems = [f"{text} (mend this first)" for text in self.serious] + list(self.slow)
        head = f"{counted(len(problems), 'problem')}:" if problems else "no problems found"
        lines = [*self.lines, "", head]
        for number, text in enumerate(problems, 1):
            lines += _wrapped(f"{number}. ", text)
        for text in self.better:
            lines += _wrapped("hint: ", text)
        return "\n".join(lines)


def _wrapped(start: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False)


def _examine(comm: Communicator, threads: int | None, mistake: UserError | None) -> Report:
    with trials.in_time(comm, "a first message"):
        nodes = nodes_of(comm)
    threads = threads or threads_for(nodes)
    with blas_threads(threads) as blas:
        facts = comm.gather(Facts.here(blas))
        lines = [*_introduced(comm, nodes, facts[0]), "", *_nodes_table(nodes, facts, threads)]
        serious, bits = _differences(facts)
        better = [*hints(nodes, threads), *_little_shared(nodes, facts), *_core_types(facts)]
        better += _busy(nodes, facts, threads)
        if mistake is None:
            found, broken = _tried(comm, threads)
            lines += ["", *table(found, left=(0, 1))]
            serious += broken
            better += _launchable(comm)
    serious = [*([str(mistake)] if mistake else []), *_without_hdf5(facts), *serious]
    return Report(lines, serious, complaints(nodes, threads) + bits, better)


def _introduced(comm: Communicator, nodes: Sequence[Node], facts: Facts) -> list[str]:
    """Versions, as rank 0 has them."""
    v = facts.versions
    mpi = [comm.description, comm.thread_level and f"thread level {comm.thread_level}", _mpi_library()]
    rows = [
        ["NumPy", v["NumPy"], v["BLAS"] or "no BLAS found"],
        ["mpi4py", v["mpi4py"], ", ".join(filter(None, mpi))],
        ["h5py", v["h5py"].split(" (")[0], f"HDF5 {v['HDF5']}" if "HDF5" in v else ""],
    ]
    where = f"{counted(comm.size, 'rank')} on {counted(len(nodes), 'node')}"
    return [f"dbp {v['dbp']}, Python {v['Python']}: {where}", "", *table(rows, left=(0, 1, 2))]


def _nodes_table(nodes: Sequence[Node], facts: Sequence[Facts], threads: int) -> list[str]:
    """A row for all nodes that are alike, named after the first, with the least memory of any."""
    alike: dict[tuple[str, ...], list[Node]] = {}
    for node in nodes:
        kind = facts[min(node.pinned)].processor
        counts = map(str, (node.cores, len(node.pinned), threads))
        alike.setdefault((kind, *counts, _pinning(node)), []).append(node)
    rows = [["node", "processor", "cores", "ranks", "threads", "pinned", "memory free", f"{SHARED_MEMORY} free"]]
    for cells, group in alike.items():
        more = f" and {len(group) - 1} more" if len(group) > 1 else ""
        ranks = [facts[rank] for node in group for rank in node.pinned]
        memory, shared = _least(f.memory for f in ranks), _least(f.shared for f in ranks)
        rows.append([group[0].host + more, *cells, memory, shared])
    return table(rows, left=(0, 1, 5), gives_way=1)


def _pinning(node: Node) -> str:
    if node.free:
        return "no"
    if len(node.pinned) == 1:
        return f"to {counted(node.reached, 'core')}"
    return "apart" if node.apart else "overlapping"


def _least(numbers: Iterable[int | None]) -> str:
    known = [number for number in numbers if number is not None]
    return size(min(known)) if known else "?"


def _tried(comm: Communicator, threads: int) -> tuple[list[list[str]], list[str]]:
    """What came of trying out what training relies on, and what of it is broken."""
    with trials.in_time(comm, "a matrix product on each rank"):
        alone, everyone = trials.products(comm)
    speed = f"{alone:.0f} GFLOP/s a rank of {counted(threads, 'thread')}"
    if comm.size == 1:
        return [["matrix product", speed]], []
    with trials.in_time(comm, "a trial of shared memory"):
        memory = trials.shared_memory(comm)
    with trials.in_time(comm, "a sum over the ranks"):
        waits = trials.waiting(comm)
    some = f" of {waits.summed} ranks" * (waits.summed < comm.size)
    found = [
        ["matrix product", f"{speed}, {min(everyone):.0f} to {max(everyone):.0f} with all ranks at once"],
        ["barrier", _time(waits.barrier)],
        [f"sum of {4e-6 * trials.LENGTH:.0f} MB{some}", _time(waits.sum)],
        ["shared memory", memory.text],
        ["weights", waits.copies],
    ]
    broken = [] if waits.right else ["the sum over the ranks is wrong"]
    if memory.worked is False:
        broken.append(f"shared memory does not work: {memory.text}")
    return found, [f"{what}; take another MPI library, or another version of it" for what in broken]


def _time(seconds: float) -> str:
    return f"{1e6 * seconds:.1f} us" if seconds < 1e-4 else f"{1e3 * seconds:.2f} ms"


# --- what is wrong ----------------------------------------------------------------------------------


def _without_hdf5(facts: Sequence[Facts]) -> list[str]:
    wrong = [(rank, f.versions["h5py"]) for rank, f in enumerate(facts) if "HDF5" not in f.versions]
    return [f"h5py is {wrong[0][1]} on {ranks_text(r for r, _ in wrong)}; pip install h5py"] if wrong else []


def _little_shared(nodes: Sequence[Node], facts: Sequence[Facts]) -> list[str]:
    for node in nodes:
        free = facts[min(node.pinned)].shared
        if len(node.pinned) > 1 and free is not None and free < LITTLE:
            return [
                f"{node.host} has {size(free)} of {SHARED_MEMORY} free: where weights and gradients do not fit, ranks "
                "copy them instead of sharing; give a container more of it, such as with docker run --shm-size=8g"
            ]
    return []


def _launchable(comm: Communicator) -> list[str]:
    """How several ranks are started here, or why they are not, if this process was started alone."""
    if launched_by_mpi():
        return []
    from dbp.launch import find_launcher, library_vendor

    if (vendor := library_vendor()[0]) is None:
        return [f"no MPI library was found, so training runs as one rank ({comm.reason}); {HOW_TO_GET_MPI}"]
    try:
        return [f"to examine several ranks: dbp run -n 2 -- doctor (with {find_launcher(vendor)})"]
    except UserError as error:
        return [str(error)]


def _differences(facts: Sequence[Facts]) -> tuple[list[str], list[str]]:
    """In what ranks differ that should not: what must be mended, and what only the bits of results depend on."""
    serious, bits = [], []
    tables = [{**f.versions, "processor": f.processor} for f in facts]
    for name in tables[0]:
        ranks: dict[str, list[int]] = {}
        for rank, values in enumerate(tables):
            ranks.setdefault(values.get(name, "none"), []).append(rank)
        if len(ranks) > 1:
            told = ", ".join(f"{value} on {ranks_text(group)}" for value, group in ranks.items())
            if name in BITS:
                bits.append(f"ranks differ in {name} ({told}): on other ranks, results may differ in their last bits")
            else:
                serious.append(f"ranks differ in {name} ({told}); start all of them in the same environment")
    return serious, bits


def _core_types(facts: Sequence[Facts]) -> list[str]:
    kinds = {f.core_type for f in facts} - {""}
    if not kinds:
        return []
    return [
        f"{CORE_TYPE} is {', '.join(sorted(kinds))}, which may keep OpenBLAS from its fastest kernel for this "
        "processor; unset it, unless a run is to go on to the same bits that was started so"
    ]


def _busy(nodes: Sequence[Node], facts: Sequence[Facts], threads: int) -> list[str]:
    """Nodes on which others leave too few cores to the ranks."""
    found = []
    for node in nodes:
        load = max(facts[rank].load for rank in node.pinned)
        if load >= 1 and load + len(node.pinned) * threads > node.cores:
            found.append(f"{node.host} ({load:.1f} of {counted(node.cores, 'core')})")
    if not found:
        return []
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return [f"other programs kept cores busy during the last minute, on {found[0]}{more}: the figures say little"]
