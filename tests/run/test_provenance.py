"""What ranks compute with is compared before the first step, and recorded."""

import pytest

from dbp.errors import UserError
from dbp.parallel import Kernels, OneProcess
from dbp.run.provenance import check_kernels


class WithAnother(OneProcess):
    """Two ranks, of which the other one has another C library."""

    def gather(self, value):
        facts, host = value or (None, None)
        return [value, value and (facts | {"c_library": "musl"}, f"{host}2")]


def test_ranks_that_compute_with_the_same_are_recorded_as_one():
    assert check_kernels(OneProcess(), "native") == Kernels.in_force()._asdict()


def test_ranks_that_compute_with_others_are_named_unless_they_are_accepted():
    with pytest.raises(UserError, match=r"c_library: .* on rank 0 \(.*\), musl on rank 1 \(.*2\)") as caught:
        check_kernels(WithAnother(), "native")
    assert caught.value.on_all_ranks
    assert str(caught.value).endswith('set kernels = "x86-64-v3", or train anyway with --accept kernels')
    recorded = check_kernels(WithAnother(), "native", ("kernels",))
    assert "musl on rank 1" in recorded["c_library"]
    assert recorded["blas"] == Kernels.in_force().blas
