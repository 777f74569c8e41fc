"""Events: numbers that are computed when they are read."""

import pytest

from dbp.listeners import Step
from dbp.listeners.events import Values


def test_values_are_computed_once_and_only_if_they_are_read():
    calls = []
    event = Step(1, 1, 10, 0.5, Values(lambda: calls.append(1) or {"cost": 2.0, "accuracy": 0.5}))
    assert calls == []
    assert event.values["cost"] == 2.0
    assert dict(event.values) == event.values == {"cost": 2.0, "accuracy": 0.5}
    assert list(event.values) == ["cost", "accuracy"]
    assert len(calls) == 1
    assert "'cost': 2.0" in repr(event)
    with pytest.raises(TypeError):
        event.values["cost"] = 1.0
