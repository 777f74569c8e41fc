"""The watchdog: ranks that do not arrive are named, and the job ends at the limit."""

import time

import pytest

from dbp.parallel import Stage
from dbp.parallel.ranks.watchdog import RankActivity, waiting_text


@pytest.mark.slow
@pytest.mark.parametrize("sizes", ["", "1,2", "1,1,1"])
def test_a_slow_rank_is_named_with_what_it_does_and_left_alone(start, sizes):
    """Rank 1 sleeps in every forward pass; the test ends the job."""
    outcome = start("slow", sizes=sizes, warn_after=1, end_after=2.5)
    assert outcome.code != 0
    assert "rank 1" in outcome.err
    assert "warning: on " in outcome.err
    assert "forward, step " in outcome.err or "waits for " in outcome.err
    assert outcome.err.count("all ranks end, as watch.end_after is 2.5 s") >= 1


@pytest.mark.slow
@pytest.mark.parametrize("sizes", ["", "1,2"])
def test_a_stopped_rank_ends_the_job_at_the_limit(start, sizes):
    began = time.monotonic()
    outcome = start("stop", sizes=sizes, warn_after=1, end_after=8)
    assert time.monotonic() - began < 35
    assert outcome.code != 0
    assert "rank 1 has not been heard of for " in outcome.err


def test_what_is_seen_of_ranks_reads_well():
    seen = [
        RankActivity(0, Stage.WAITING, 61.0, 11, 0.4),
        RankActivity(1, Stage.BACKWARD, 75.2, 11, 0.3),
        RankActivity(2, Stage.BACKWARD, 3.0, 11, 80.0),
    ]
    assert str(seen[1]) == "rank 1 has been in backward, step 12 for 75 s"
    assert str(seen[2]) == "rank 2 has not been heard of for 80 s (in backward, step 12)"
    assert waiting_text(seen) == "rank 0 waits"
