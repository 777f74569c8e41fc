"""The record of steps that are not finite: rollback targets, and counts of rollbacks."""

from dbp.run.not_finite import NotFiniteRecord
from dbp.run.progress import Progress


def test_rollback_targets():
    """A run returns to the last checkpoint, then in turn to the one before it, never to one of the failed step."""
    record = NotFiniteRecord()
    assert record.rollback_target(0) is None
    assert record.rollback_target(1) == 0
    for step in (4, 8):
        record.mark_checkpoint(step)
        record.mark_checkpoint(step)
    assert (record.last_checkpoint_step, record.previous_checkpoint_step, record.rollback_target(8)) == (8, 4, 4)
    for expected in (8, 4, 8, 4):
        assert record.rollback_target(9) == expected
        record.rollbacks += 1
    assert record.rollback_targets() == {8, 4}


def test_rollbacks_are_counted_anew_past_the_failed_step():
    progress = Progress()
    progress.step, progress.not_finite = 4, NotFiniteRecord(rollbacks=3, failed_step=6)
    for expected in (3, 3, 0):
        progress.after_step(progress.totals)
        assert progress.not_finite.rollbacks == expected
