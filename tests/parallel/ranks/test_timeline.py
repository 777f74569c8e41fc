"""Timelines: spans of a rank's time."""

from dbp.parallel import Stage, StageClock
from dbp.parallel.ranks.timeline import Timeline


def test_a_clock_adds_its_stages_one_after_the_other():
    clock = StageClock()
    clock.enter(Stage.DATA)
    clock.timeline = timeline = Timeline()
    for stage in (Stage.FORWARD, Stage.BACKWARD, Stage.OTHER):
        clock.enter(stage)
    assert [span.name for span in timeline.stages] == ["data", "forward", "backward"]
    assert timeline.stages[0].start == timeline.since
    for span, following in zip(timeline.stages, timeline.stages[1:], strict=False):
        assert span.start <= span.end == following.start
    clock.reset()
    assert clock.timeline is None


def test_what_began_before_a_timeline_is_not_in_it():
    timeline = Timeline()
    timeline.open("a", "message", {"bytes": 3})
    timeline.close(timeline.messages, "a")
    timeline.close(timeline.messages, "b")
    ((name, start, end, details),) = timeline.messages
    assert (name, details) == ("message", {"bytes": 3})
    assert timeline.since <= start <= end
