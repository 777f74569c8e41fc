"""A job for the tests of agreement, of equal nodes and of the watchdog."""

import pytest

from tests.jobs import PROGRAMS, mpirun


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a training on three ranks, of which rank 1 misbehaves in some way."""

    def start(way, sizes="", warn_after=0, end_after=0, **options):
        words = (PROGRAMS / "misbehaving_rank.py", way, tmp_path / "run", warn_after, end_after)
        return mpirun(3, *words, env={"DBP_NODE_SIZES": sizes}, **options)

    return start
