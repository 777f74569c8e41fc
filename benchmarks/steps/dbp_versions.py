"""The versions that dbp's figures belong to."""

from __future__ import annotations

import numpy as np

import dbp
from dbp.blas import blas_text
from dbp.parallel import Communicator


def versions_of(comm: Communicator) -> dict[str, str]:
    """Return the versions of dbp and of what computes and communicates for it."""
    return {"dbp": dbp.__version__, "numpy": np.__version__, "MPI": comm.description, "numpy BLAS": blas_text()}
