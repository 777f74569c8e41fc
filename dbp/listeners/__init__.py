"""Listeners: functions that rank 0 calls with the events of a run, and the logs that are such functions.

To add a log that runs write by themselves:

1. Write a class in a file of its own with a method `__call__(event)`; see json_log.py. It appends to an `AppendedFile`,
   and at a `Start` it cuts off what that start comes to again.
2. Add a key to `Log` in dbp/config/settings.py, and the class to LOGS in logs.py.
3. Describe it in docs/listeners.md and docs/config.md.
4. Test it in tests/listeners: the records of a run that was killed and resumed are those of an unbroken one.
"""

from dbp.listeners.events import CheckpointWritten, End, Epoch, Event, Start, Step
from dbp.listeners.listener import STOP, Listener, as_listeners, listener

__all__ = [
    "STOP",
    "CheckpointWritten",
    "End",
    "Epoch",
    "Event",
    "Listener",
    "Start",
    "Step",
    "as_listeners",
    "listener",
]
