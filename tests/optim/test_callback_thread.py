"""Two threads that take turns: values, errors and ends."""

import os
import signal
import threading
import time

import pytest

from dbp.optim.callback_thread import CallbackThread, Raised, Returned


def test_turns():
    aside = CallbackThread(lambda ask: [ask("a"), ask("b")])
    assert [aside.next(), aside.next(1), aside.next(2)] == ["a", "b", Returned([1, 2])]
    aside.close()
    aside = CallbackThread(lambda ask: 1 / ask("a"))
    assert aside.next() == "a"
    end = aside.next(0)
    assert isinstance(end, Raised)
    assert isinstance(end.error, ZeroDivisionError)
    aside.close()


def test_one_that_is_not_answered_ends():
    ended = []

    def stubborn(ask):
        try:
            ask("a")
        except BaseException:
            ended.append(1)
            ask("again")  # which has no answer either

    for began in (False, True):
        aside = CallbackThread(stubborn)
        assert not began or aside.next() == "a"
        aside.close()
        aside.close()
    assert ended == [1]


def test_who_waits_can_be_interrupted():
    aside = CallbackThread(lambda ask: time.sleep(1))
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        aside.next()
    aside.close()
