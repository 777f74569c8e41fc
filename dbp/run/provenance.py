"""What a file was made with, and by which process."""

from __future__ import annotations

import os
import platform
import socket

import numpy as np

from dbp.job import job_here
from dbp.parallel import Communicator, must_be_alike
from dbp.version import VERSION


def versions() -> dict[str, str]:
    """What may decide a result besides settings and data."""
    return {"dbp": VERSION, "python": platform.python_version(), "numpy": np.__version__}


def check_installation(comm: Communicator) -> None:
    """UserError if ranks do not have the same versions of what may decide a result; collective."""
    must_be_alike(comm, versions(), "start the same installation of dbp and Python on all nodes")


def process() -> dict[str, object]:
    """Which process this is: host, process, and job if it belongs to one."""
    job = job_here()
    return {"host": socket.gethostname(), "process": os.getpid()} | ({"job": job.id} if job else {})
