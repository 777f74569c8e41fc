"""Charts: round ticks, axes for all sorts of values, and curves with gaps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbp.report.chart import HEIGHT, Curve, chart, epoch_axis, round_ticks, tick_text, value_axis
from dbp.report.history import Series


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e6))
def test_ticks_are_few_and_lie_in_between(least, span):
    ticks = round_ticks(least, least + span)
    assert 2 <= len(ticks) <= 8
    assert all(least - 1e-6 * span <= tick <= least + span * (1 + 1e-6) for tick in ticks)
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[0])


def test_ticks_and_their_texts():
    assert round_ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert [tick_text(x) for x in (0, 0.25, 1e-5, 2500, 1e6, -1e-7)] == ["0", "0.25", "1e-5", "2500", "1e6", "-1e-7"]


@pytest.mark.parametrize("values", [[1.0], [0.0, 0.0], [1e-9, 1e3], [-1e300, 1e300], [np.nan, 2.0], [1e-300, 1e300]])
def test_all_finite_values_lie_in_the_picture(values):
    axis = value_axis(np.array(values))
    pixels = [axis.pixel(value) for value in values if np.isfinite(value)]
    assert all(-1 <= pixel <= HEIGHT for pixel in pixels)
    assert len(axis.ticks) <= 8


def test_values_that_differ_much_have_a_logarithmic_axis():
    axis = value_axis(np.array([1e-4, 1.0]))
    assert axis.ticks == [1e-4, 1e-3, 1e-2, 1e-1, 1.0]
    assert value_axis(np.array([1e-4, 1.0]), log=False).ticks[0] == 0
    assert value_axis(np.array([np.inf, np.nan])) is None


def test_epochs_have_whole_numbers():
    assert epoch_axis(1, 4).ticks == [1, 2, 3, 4]
    assert epoch_axis(1, 1).ticks == [1]
    assert all(tick == round(tick) for tick in epoch_axis(1, 1e6).ticks)


def test_a_gap_in_a_curve_is_left_out_and_the_best_epoch_marked():
    curve = Curve("<b>", Series(np.array([1, 2, 3]), np.array([2.0, np.nan, 1.0])), "validation", best=3)
    drawn = chart("cost", [curve])
    assert drawn.count('class="dot"') == 2
    assert "best epoch: 3" in drawn
    assert "<b>&" not in drawn
    assert "&lt;b&gt; from 2.0000 to 1.0000" in drawn
    assert "nan" not in drawn
    assert chart("cost", [Curve("a", Series(np.array([1]), np.array([np.nan])), "x")]) == ""
