"""Listeners: what is taken for one, how often it hears of steps, and what is said of a failure."""

import functools

import pytest

import dbp
from dbp.errors import UserError
from dbp.listeners import Listener, as_listeners
from dbp.listeners.listener import failure


def watch(event):
    return event


class Watcher:
    every, harmless = 5, True

    def __call__(self, event):
        return event


@pytest.mark.parametrize(
    ("given", "name", "every", "harmless"),
    [
        (watch, "watch", 1, False),
        (print, "print", 1, False),
        (dbp.listener(every=10)(watch), "watch", 10, False),
        (dbp.listener(watch), "watch", 1, False),
        (dbp.listener(harmless=True)(watch), "watch", 1, True),
        (Watcher(), "Watcher", 5, True),
        (functools.partial(watch), "partial", 1, False),
    ],
)
def test_functions_and_objects_are_listeners(given, name, every, harmless):
    (found,) = as_listeners([given])
    assert (found.name, found.every, found.harmless) == (name, every, harmless)


def test_a_listener_within_a_function_has_its_own_name():
    def inner(event):
        return event

    assert Listener(inner).name == "inner"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (watch, r"listeners must be a list of functions, but is <function watch.*listeners=\[function, \.\.\.\]"),
        ("tensorboard", "listeners must be a list of functions, but is 'tensorboard'"),
        ([3], "a listener must be a function of one event, but is 3"),
        ([lambda: None], r"listener <lambda> must be a function of one event, but takes \(\)"),
        ([Watcher], r"listener Watcher is a class; make an object of it: Watcher\(\.\.\.\)"),
    ],
)
def test_anything_else_is_refused(given, message):
    with pytest.raises(UserError, match=message):
        as_listeners(given)


@pytest.mark.parametrize("every", [-1, 1.5, None])
def test_every_is_a_number_of_steps(every):
    with pytest.raises(UserError, match=r"every of listener watch must be"):
        dbp.listener(every=every)(watch)


def test_a_failure_is_told_with_the_line_of_the_listener():
    def broken(event):
        return int(event)

    try:
        broken("x")
    except ValueError as error:
        text = failure(error)
    assert text.startswith("ValueError: invalid literal")
    assert text.endswith(f"(test_listener.py, line {broken.__code__.co_firstlineno + 1})")
