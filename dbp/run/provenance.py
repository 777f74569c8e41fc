"""Provenance: the versions that a file was made with, and the process that made it."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Mapping, Sequence

import numpy as np

from dbp import kernels
from dbp.errors import UserError
from dbp.job import job_here
from dbp.parallel import Communicator, Kernels, agree, check_equal_on_ranks, differences, processor
from dbp.version import VERSION

KERNELS = "kernels"  # the key that accepts ranks with different ones
OF_TRAINING = f'set kernels = "{kernels.X86_64_V3}", or train anyway with --accept {KERNELS}'


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on besides settings and data."""
    return {"dbp": VERSION, "python": platform.python_version(), "numpy": np.__version__}


def check_installation(comm: Communicator) -> None:
    """Raise UserError if ranks have different versions of dbp or Python; collective."""
    facts = {"dbp": VERSION, "python": platform.python_version()}
    check_equal_on_ranks(comm, facts, "start the same installation of dbp and Python on all nodes")


def check_kernels(
    comm: Communicator, asked: str, accept: Sequence[str] = (), remedies: str = OF_TRAINING
) -> dict[str, str]:
    """Return what the ranks compute with, by name; where they differ, with the ranks; collective.

    Args:
        comm: the ranks.
        asked: the setting.
        accept: keys in which a run may differ from its checkpoint; "kernels" accepts ranks that differ too.
        remedies: what to do instead of starting all ranks on nodes of one kind.

    Raises:
        UserError: a rank computes with other kernels than those asked for, or ranks differ.
    """
    mine = Kernels.in_force()
    agree(comm, kernels.check, asked, mine.blas, mine.cpu_features.split())
    different = differences(comm, mine._asdict())
    if different and KERNELS not in accept:
        lines = "; ".join(f"{name}: {text}" for name, text in different.items())
        error = UserError(
            f"ranks do not compute with the same kernels, so the bits would depend on who computes what ({lines}); "
            f"start them on nodes of one kind and one installation, {remedies}"
        )
        error.on_all_ranks = True
        raise error
    return mine._asdict() | different


def made_with(comm: Communicator, kernels_in_force: Mapping[str, str]) -> dict[str, str | int]:
    """Return what a run is made with: versions, ranks, processor, host.

    Args:
        comm: the ranks.
        kernels_in_force: what they compute with, as check_kernels() returns it.
    """
    where = {"processor": processor(), "host": socket.gethostname(), "mpi": comm.description}
    return {**versions(), **kernels_in_force, "ranks": comm.size, **where}


def process() -> dict[str, object]:
    """Return host, process number, and batch job, if any, of this process."""
    job = job_here()
    return {"host": socket.gethostname(), "process": os.getpid()} | ({"job": job.id} if job else {})
