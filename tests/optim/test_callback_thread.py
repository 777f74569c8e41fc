"""Two threads that take turns: values, errors and ends."""

import os
import signal
import threading
import time

import pytest

from dbp.optim.callback_thread import CallbackThread, Raised, Returned


def test_turns():
    thread = CallbackThread(lambda ask: [ask("a"), ask("b")])
    assert [thread.send(), thread.send(1), thread.send(2)] == ["a", "b", Returned([1, 2])]
    thread.close()
    thread = CallbackThread(lambda ask: 1 / ask("a"))
    assert thread.send() == "a"
    end = thread.send(0)
    assert isinstance(end, Raised)
    assert isinstance(end.error, ZeroDivisionError)
    thread.close()


def test_one_that_is_not_answered_ends():
    ended = []

    def stubborn(ask):
        try:
            ask("a")
        except BaseException:
            ended.append(1)
            ask("again")  # which has no answer either

    for began in (False, True):
        thread = CallbackThread(stubborn)
        assert not began or thread.send() == "a"
        thread.close()
        thread.close()
    assert ended == [1]


def test_who_waits_can_be_interrupted():
    thread = CallbackThread(lambda ask: time.sleep(1))
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        thread.send()
    thread.close()
