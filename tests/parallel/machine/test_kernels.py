"""The kernels that NumPy computes with in this process."""

import importlib.metadata

import numpy as np
import pytest
import threadpoolctl

from dbp.parallel.machine.kernels import Kernels


def test_only_numpys_own_blas_is_recorded():
    before = Kernels.in_force()
    pytest.importorskip("scipy.linalg")  # the wheel of SciPy brings an OpenBLAS of its own
    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    assert len(pools) > 1 or "numpy.libs" not in pools[0]["filepath"]
    assert Kernels.in_force() == before
    assert before.numpy == np.__version__ == importlib.metadata.version("numpy")
    assert "," not in before.blas
