"""The contents of a checkpoint as text: what it says of the best epoch."""

import dataclasses

from dbp.checkpoint import find
from dbp.trained.contents import describe
from tests.saving.short_runs import run


def test_the_best_epoch_is_named_only_where_there_is_one(tmp_path):
    run(tmp_path, epochs=2)
    with find(tmp_path, last=True) as found:
        best = found.progress["best_epoch"]
        assert f"\nbest epoch: {best} (" in describe(found)
        none = dataclasses.replace(found, progress={**found.progress, "best_epoch": 0})
        assert "best epoch" not in describe(none)
