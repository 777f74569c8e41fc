"""What the log of a run tells of its life."""

from dbp.report.events import events_in, results_on_test_data
from tests.report.runs import LOG


def test_the_log_tells_of_starts_stops_and_the_end():
    found = events_in(LOG.splitlines())
    assert [event.kind for event in found] == ["start", "stop", "start", "resume", "warning", "end"]
    assert (found[1].day, found[1].time) == ("2026-11-30", "10:00:09")
    assert found[4].words.startswith("1 step was skipped")
    assert events_in(["no time", "", "2026-11-30T10:00:00+00:00 epoch 1"]) == []


def test_the_last_results_on_test_data_are_found():
    assert results_on_test_data(LOG.splitlines()) == "cost 0.3000  accuracy 0.9000  (100 examples)"
    assert results_on_test_data([]) == ""
