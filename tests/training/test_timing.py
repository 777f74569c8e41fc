"""The line of times at the end of a run: when it is followed by advice on data."""

import pytest

from dbp.parallel import Stage
from dbp.training.timing import Timing, peak_memory


@pytest.mark.parametrize(("of_data", "rest", "waits"), [(4.0, 6.0, True), (2.0, 8.0, False), (0.4, 0.6, False)])
def test_advice_is_due_if_data_takes_a_large_part_and_much_time(of_data, rest, waits):
    seconds = [0.0] * len(Stage)
    seconds[Stage.DATA], seconds[Stage.BACKWARD], seconds[Stage.EVALUATION] = of_data, rest, 100.0
    timing = Timing(["a", "b"], [seconds, seconds], steps=10, memory=[0, 0])
    assert timing.takes_long(Stage.DATA) == waits


def test_advice_on_waiting_names_the_rank_that_holds_up_the_others():
    def advice(waiting, *of_ranks):
        seconds = [[0.0] * len(Stage) for _ in of_ranks]
        for row, own in zip(seconds, of_ranks, strict=True):
            row[Stage.BACKWARD], row[Stage.WAITING] = own, waiting
        return Timing(["a", "b"], seconds, steps=10, memory=[0, 0]).advice_on_waiting

    assert advice(11.0, 90.0, 90.0) == advice(9.0, 1.0, 1.0) == ""
    assert advice(15.0, 2.0, 8.0).startswith("ranks wait for rank 1 on b, which works longest: ")
    assert "a larger batch_size" in advice(18.0, 5.0, 5.1)


def test_the_line_of_a_step_fits_and_names_the_largest_stages_first():
    seconds = [[1.0 + stage for stage in Stage]] * 2
    first, second = str(Timing(["a", "b"], seconds, steps=10, memory=[0, 0])).split("\n")
    assert first.startswith("a step took 4 s: waiting 25%, other 22%, ")
    assert len(first) <= 80
    assert second == "own work in a step: 3 s (rank 0) to 3 s (rank 0)"


def test_the_table_has_the_seconds_and_the_memory_of_each_rank():
    head, row = Timing(["a"], [[0.5] * len(Stage)], steps=1, memory=[1234]).table().splitlines()
    assert head.split(",")[:3] == ["rank", "host", "data"]
    assert (head.split(",")[-1], row.split(",")[-1]) == ("memory", "1234")
    assert peak_memory() > 1 << 20
