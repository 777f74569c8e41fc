"""NumPy's BLAS in this process."""

import pytest
import threadpoolctl

from dbp import blas
from dbp.blas import _of_numpy, blas_threads, prefers_small_products


def test_a_blas_that_is_in_no_wheel_is_the_one_that_numpy_was_built_with():
    pools = [{"filepath": f"/opt/{path}"} for path in ("scipy.libs/libopenblas-1.so", "lib/libopenblas.so.0")]
    assert _of_numpy(pools) == pools[1:]


def counts():
    """Return the number of threads of each BLAS library in this process."""
    return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]


def test_threads_are_set_within_a_context_and_restored():
    before = counts()
    with blas_threads(1):
        assert set(counts()) == {1}
    assert counts() == before


def test_contexts_of_two_threads_overlap():
    with threadpoolctl.threadpool_limits(2, "blas"):
        first, second = blas_threads(1), blas_threads(1)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert set(counts()) == {1}
        assert prefers_small_products() == (blas._kernel() in blas.SMALL_PRODUCT_KERNELS)
        second.__exit__(None, None, None)
        assert set(counts()) == {2}


@pytest.mark.parametrize(("text", "expected"), [("openblas 0.3.31 SkylakeX", True), ("openblas 0.3.31 Haswell", False)])
def test_small_products_are_preferred_in_one_thread_of_some_kernels(monkeypatch, text, expected):
    monkeypatch.setattr(blas, "_kernel", lambda: text.rpartition(" ")[2])
    assert not prefers_small_products()  # as many threads as it likes
    with blas_threads(1):
        assert prefers_small_products() == expected
        with blas_threads(2):
            assert not prefers_small_products()
        assert prefers_small_products() == expected
    assert not prefers_small_products()
