"""A class of settings that is called with an argument of another framework."""

import sys
from functools import partial

import pytest

from dbp.nn import Dense
from dbp.optim import Adam
from dbp.script.argument_hint import argument_hint
from tests.jobs import mpirun, run


def of_call(function, **arguments):
    try:
        function(**arguments)
    except TypeError as error:
        return argument_hint(error)
    raise AssertionError


def test_an_argument_that_has_another_name_is_told():
    assert of_call(Adam, lr=0.1) == "unknown argument of Adam 'lr'; did you mean 'learning_rate'?"
    assert of_call(Dense, units=2, trainable=False) == (
        "unknown argument of Dense 'trainable'; dbp has it as frozen; a list of patterns of the names of parameters, "
        'such as frozen = ["dense_1/*"] of a run'
    )


def test_other_errors_have_no_hint():
    assert argument_hint(TypeError("Own.__init__() got an unexpected keyword argument 'lr'")) is None
    assert argument_hint(TypeError("unsupported operand")) is None
    assert argument_hint(ValueError("Adam.__init__() got an unexpected keyword argument 'lr'")) is None


@pytest.mark.slow
def test_a_script_shows_it_after_the_traceback():
    for start in (run, partial(mpirun, 2)):
        words = (sys.executable,) if start is run else ()
        outcome = start(*words, "-c", "import dbp; dbp.optim.Adam(lr=0.1)")
        assert outcome.code == 1
        assert "\nunknown argument of Adam 'lr'; did you mean 'learning_rate'?\n" in outcome.err
