"""The line of times at the end of a run: when it is followed by advice on data."""

import pytest

from dbp.parallel import Stage
from dbp.training.timing import Timing


@pytest.mark.parametrize(("of_data", "rest", "waits"), [(4.0, 6.0, True), (2.0, 8.0, False), (0.4, 0.6, False)])
def test_advice_is_due_if_data_takes_a_large_part_and_much_time(of_data, rest, waits):
    seconds = [0.0] * len(Stage)
    seconds[Stage.DATA], seconds[Stage.BACKWARD], seconds[Stage.EVALUATION] = of_data, rest, 100.0
    assert Timing(["a", "b"], [seconds, seconds], steps=10).waits_for_data == waits
