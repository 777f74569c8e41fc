"""Turns between two threads: their order, errors, and ends at any point."""

import contextvars
import threading

import pytest

from dbp.parallel.sums.coroutine_thread import DONE, PAUSED, CoroutineThread


@pytest.fixture
def thread():
    thread = CoroutineThread()
    yield thread
    thread.end()
    assert "dbp shard" not in [other.name for other in threading.enumerate()]


def test_a_function_runs_in_turn_and_in_the_context_of_its_caller(thread):
    events, variable = [], contextvars.ContextVar("variable", default="outside")

    def function():
        events.append(variable.get())
        thread.pause()
        events.append("second turn")
        thread.pause()
        events.append("third turn")

    variable.set("of the caller")
    for before in range(2):
        thread.begin(function)
        assert (events, thread.state) == (["of the caller"], PAUSED)
        thread.proceed()
        assert (events[1:], thread.state) == (["second turn"], PAUSED)
        thread.proceed()
        assert (events[2:], thread.state, thread.error) == (["third turn"], DONE, None), before
        events.clear()


def test_an_error_ends_a_function_and_the_next_one_runs(thread):
    def fail():
        thread.pause()
        raise KeyError("wrong")

    thread.begin(fail)
    thread.proceed()
    assert thread.state == DONE
    assert isinstance(thread.error, KeyError)
    thread.begin(lambda: None)
    assert (thread.state, thread.error) == (DONE, None)


def test_a_function_is_cancelled_wherever_it_is(thread):
    """Cancel through handlers of exceptions, and a thread whose function has ended, which changes nothing."""
    ended = []

    def function(pauses):
        try:
            for _ in range(pauses):
                try:
                    thread.pause()
                except Exception:
                    ended.append("handled")
        finally:
            ended.append(pauses)

    for pauses in (0, 1, 3):
        thread.begin(lambda pauses=pauses: function(pauses))
        if pauses == 3:
            thread.proceed()
        thread.cancel()
        thread.cancel()
        assert (thread.state, thread.error) == (DONE, None)
    assert ended == [0, 1, 3]


def test_an_interrupt_while_the_function_runs_leaves_no_turn_behind(thread, monkeypatch):
    """Interrupt the calling thread before it has seen that the function pauses."""
    answers, begun = thread._answers, threading.Event()

    def interrupted():
        begun.wait(10)
        raise KeyboardInterrupt

    def function():
        begun.set()
        thread.pause()
        raise AssertionError("not cancelled")

    with monkeypatch.context() as patch:
        patch.setattr(thread, "_answers", type("Answers", (), {"get": staticmethod(interrupted), "put": answers.put}))
        with pytest.raises(KeyboardInterrupt):
            thread.begin(function)
    thread.cancel()
    assert (thread.state, thread.error) == (DONE, None)
