"""Provenance: the versions that a file was made with, and the process that made it."""

from __future__ import annotations

import os
import platform
import socket

import numpy as np

from dbp.job import job_here
from dbp.parallel import Communicator, check_equal_on_ranks
from dbp.version import VERSION


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on besides settings and data."""
    return {"dbp": VERSION, "python": platform.python_version(), "numpy": np.__version__}


def check_installation(comm: Communicator) -> None:
    """Raise UserError if ranks have different versions; collective."""
    check_equal_on_ranks(comm, versions(), "start the same installation of dbp and Python on all nodes")


def process() -> dict[str, object]:
    """Return host, process number, and batch job, if any, of this process."""
    job = job_here()
    return {"host": socket.gethostname(), "process": os.getpid()} | ({"job": job.id} if job else {})
