"""Rows that ranks compute together, on one node and on several."""

import pytest

from tests.jobs import PROGRAMS, mpirun, slow


@pytest.mark.parametrize(("ranks", "nodes"), [(3, None), *slow((1, None), (3, "2,1"))])
def test_all_ranks_have_the_rows_of_all(ranks, nodes):
    outcome = mpirun(ranks, PROGRAMS / "shared_rows.py", env={"DBP_NODE_SIZES": nodes} if nodes else {})
    assert outcome.code == 0, outcome.text
    assert outcome.out == "equal\n"
