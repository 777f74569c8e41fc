"""Examine the software of the ranks: MPI and its launcher, BLAS and HDF5, and whether all ranks have the same."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dbp.doctor.findings import BAD, GOOD, WARNING, Finding
from dbp.errors import UserError
from dbp.kernels import CORE_TYPE, X86_64_V3
from dbp.parallel import HOW_TO_GET_MPI, Communicator, Kernels, processor
from dbp.parallel.machine.limits import available_memory
from dbp.parallel.machine.shared_memory import free_shared_memory
from dbp.parallel.ranks.placement import ranks_text
from dbp.process.launcher import launched_by_mpi
from dbp.text import count_text
from dbp.version import VERSION

UNUSABLE = "not usable"
KERNELS = ("NumPy", "BLAS", "CPU features", "C library")  # decide on the bits, so ranks must have the same
MAY_DIFFER = ("processor",)  # ranks train on different ones, but the bits of results may differ


@dataclass(frozen=True)
class RankFacts:
    """Facts about one rank. Versions and processor should be the same on all ranks.

    Args:
        versions: versions of libraries by name.
        processor: name of the processor.
        memory: bytes of memory that are free; None if unknown.
        shared: bytes of shared memory that are free; None if unknown.
        core_type: the kind of processor that OpenBLAS is told to assume; empty for the real one.
        load: programs that ran on the node, on average over the last minute.
    """

    versions: Mapping[str, str]
    processor: str
    memory: int | None
    shared: int | None
    core_type: str
    load: float

    @classmethod
    def here(cls) -> RankFacts:
        """Return the facts about this process."""
        versions, core_type = _versions(), os.environ.get(CORE_TYPE, "")
        load = os.getloadavg()[0]
        return cls(versions, processor(), available_memory(), free_shared_memory(), core_type, load)


def _versions() -> dict[str, str]:
    versions = {"dbp": VERSION, "Python": platform.python_version()}
    versions |= dict(zip(KERNELS, Kernels.in_force(), strict=True))
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


def mpi_file() -> str:
    """Return the file of the MPI library that this process has loaded; empty if unknown (Linux)."""
    try:
        words = Path("/proc/self/maps").read_text().split()
    except OSError:
        return ""
    return next((word for word in words if Path(word).name.startswith(("libmpi.", "libmpich.", "libmpi_"))), "")


# --- MPI --------------------------------------------------------------------------------------------


def mpi_findings(comm: Communicator, error: UserError | None) -> Iterator[Finding]:
    """Report the MPI library, whether the launcher belongs to it, and what happens when ranks die."""
    if comm.reason:
        yield Finding("MPI library", WARNING, f"none: training runs as one rank ({comm.reason})", HOW_TO_GET_MPI)
    elif error is None:
        yield Finding("MPI library", GOOD, f"{comm.description}" + f" ({mpi_file()})" * bool(mpi_file()))
    if error is not None:
        yield Finding.of("launcher", BAD, str(error))
    elif launched_by_mpi():
        connected = ", which see each other" * (comm.size > 1)
        yield Finding("launcher", GOOD, f"of the same MPI; {count_text(comm.size, 'rank')}{connected}")
        yield _when_ranks_die(comm)
    elif not comm.reason:
        yield _launcher_to_use()


def _launcher_to_use() -> Finding:
    """Report the launcher that would start several ranks, if this process was started alone."""
    from dbp.batch.launch import find_launcher, library_vendor

    try:
        launcher = find_launcher(library_vendor()[0] or "MPI")
    except UserError as error:
        return Finding.of("launcher", WARNING, str(error))
    return Finding("launcher", GOOD, f"{launcher} (to try: dbp run -n 2 -- doctor)")


def _when_ranks_die(comm: Communicator) -> Finding:
    """Report whether ranks can continue when others die, which a run does not need."""
    if comm.survival.enabled:
        found = "the others continue (ULFM)"
    elif comm.survival.possible:
        found = "all end; ULFM is available: dbp run --survive"
    else:
        found = f"all end; {comm.description} has no ULFM"
    return Finding("when ranks die", GOOD, found)


# --- the same on all ranks --------------------------------------------------------------------------


def environment_findings(facts: Sequence[RankFacts]) -> Iterator[Finding]:
    """Report versions, BLAS and HDF5, and differences between ranks."""
    versions = facts[0].versions
    if len(facts) > 1 and not (different := list(_differences(facts))):
        yield Finding(
            "environment", GOOD, f"the same on all ranks (NumPy {versions['NumPy']}, mpi4py {versions['mpi4py']})"
        )
    elif len(facts) > 1:
        yield from different
    yield _blas_finding(facts)
    yield Finding("kernels", GOOD, f"NumPy uses {versions['CPU features']}; {versions['C library'] or 'no glibc'}")
    wrong = [(rank, f.versions["h5py"]) for rank, f in enumerate(facts) if "HDF5" not in f.versions]
    if wrong:
        found = f"h5py is {wrong[0][1]} on {ranks_text(r for r, _ in wrong)}"
        yield Finding("HDF5", BAD, found, "pip install h5py")
    else:
        yield Finding("HDF5", GOOD, f"{versions['HDF5']}, h5py {versions['h5py']}")


def _blas_finding(facts: Sequence[RankFacts]) -> Finding:
    library = facts[0].versions["BLAS"] or "an unknown one, which may use any number of threads"
    kinds = sorted({f.core_type for f in facts} - {""})
    if kinds:
        remedy = f'unset it, unless a run was started with it; one with kernels = "{X86_64_V3}" sets it itself'
        found = f"{library}; {CORE_TYPE} is {', '.join(kinds)}, which may prevent its fastest kernel"
        return Finding("BLAS", WARNING, found, remedy)
    if not facts[0].versions["BLAS"]:
        return Finding("BLAS", WARNING, library, "install a NumPy with OpenBLAS, MKL or BLIS, such as that of pip")
    return Finding("BLAS", GOOD, library)


def _differences(facts: Sequence[RankFacts]) -> Iterator[Finding]:
    """Report differences between ranks: bad ones, and those that only affect the last bits of results."""
    tables = [{**f.versions, "processor": f.processor} for f in facts]
    for name in tables[0]:
        ranks: dict[str, list[int]] = {}
        for rank, values in enumerate(tables):
            ranks.setdefault(values.get(name, "none"), []).append(rank)
        if len(ranks) > 1:
            values_text = ", ".join(f"{value} on {ranks_text(group)}" for value, group in ranks.items())
            found = f"ranks differ in {name} ({values_text})"
            if name in MAY_DIFFER:
                remedy = "use nodes of one kind: on others results may differ in their last bits"
                yield Finding("environment", WARNING, found, remedy)
            elif name in KERNELS:
                remedy = f'use nodes of one kind, set kernels = "{X86_64_V3}", or train with --accept kernels'
                yield Finding("environment", BAD, found, remedy)
            else:
                yield Finding("environment", BAD, found, "start all of them in the same environment")
