"""A loss that is a function: the same as the loss of that name, checked at its start, and told from another one."""

import numpy as np
import pytest

from dbp import nn
from dbp.autodiff import PRIMITIVES, Primitive, abs_, array_of, log_softmax, mean, pick, square
from dbp.checkpoint import digest_arrays
from dbp.config.data import Data
from dbp.errors import UserError
from dbp.nn import FunctionLoss, as_loss
from dbp.nn.source_text import digest_of_source
from dbp.saving.start import Start
from tests.jobs import newest_checkpoint
from tests.saving.short_runs import run
from tests.small_data import X, Y


def squares(outputs, targets):
    """Return the squared difference of each output."""
    return square(outputs - targets)


def cross_entropy(outputs, targets):
    return -pick(log_softmax(outputs), index=targets)


NUMBERS = {"data": Data((X, X[:, :2] - X[:, 3:]), validation=0.2), "model": [nn.Dense(8, "tanh"), nn.Dense(2)]}


@pytest.mark.parametrize(
    ("function", "known", "settings"),
    [
        (squares, "mean_squared_error", NUMBERS),
        (lambda outputs, targets: (outputs - targets) ** 2, "mean_squared_error", NUMBERS),
        (lambda outputs, targets: mean(abs_(outputs - targets), axis=-1), "mean_absolute_error", NUMBERS),
        (cross_entropy, "cross_entropy", {}),
    ],
)
def test_it_is_the_loss_of_that_name(function, known, settings):
    own, expected = run(loss=function, **settings), run(loss=known, **settings)
    np.testing.assert_allclose(own.history["cost"], expected.history["cost"], rtol=1e-5)
    for name, array in expected.weights.items():
        np.testing.assert_allclose(own.weights[name], array, rtol=1e-3, atol=1e-5)


def test_targets_of_one_output_need_no_second_axis():
    """NumPy would make a matrix of all differences."""
    data = Data((X, X[:, 0] - X[:, 3]), validation=0.2)
    found = run(loss=squares, model=[nn.Dense(1)], data=data)
    expected = run(loss="mean_squared_error", model=[nn.Dense(1)], data=data)
    assert digest_arrays(found.weights) == digest_arrays(expected.weights)


def without_gradient(outputs, targets):
    return square(array_of(outputs) - targets)


def with_numpy(outputs, targets):
    return np.cbrt(outputs) - targets


def half_detached(outputs, targets):
    return (outputs - targets) * array_of(outputs - targets)


# A primitive enters the table of all; this one must not stay there, as other tests go through that table.
slope = Primitive("wrong_slope", lambda x: x * x, [lambda g, y, x: g * x], [lambda t, y, x: t * x])
del PRIMITIVES["wrong_slope"]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda outputs, targets: mean(square(outputs - targets)), "returned one number for all; leave out the mean"),
        (lambda outputs, targets: None, "it returned None$"),
        (
            lambda outputs: outputs,
            r"must take two arguments, outputs and targets, but is <lambda>\(outputs\);",
        ),
        (lambda outputs, targets: (outputs - targets).T, r"returned shape \(2, 3\)$"),
        (without_gradient, "without_gradient returned plain numbers, whose derivative by the outputs is lost"),
        (with_numpy, r"with_numpy: in with_numpy \(line \d+ of test_function.py\): np.cbrt records no derivative"),
        (half_detached, r"the derivative of loss half_detached by the outputs is wrong: \S+ along a random direction"),
        (lambda outputs, targets: slope(outputs - targets), "the derivative of loss <lambda> by the outputs is wrong"),
        (lambda outputs, targets: outputs - targets[:, :1, None], "must return one number per example"),
    ],
)
def test_what_would_train_wrongly_is_refused_in_one_line(function, message):
    with pytest.raises(UserError, match=message) as error:
        run(loss=function, **NUMBERS)
    assert "\n" not in str(error.value)


def test_a_mistake_of_the_function_itself_keeps_its_traceback():
    with pytest.raises(TypeError, match="unsupported operand"):
        run(loss=lambda outputs, targets: outputs * (None + len(targets)), **NUMBERS)


def test_a_kink_is_no_wrong_derivative():
    loss = FunctionLoss(lambda outputs, targets: abs_(outputs - targets))
    loss.check_derivative(np.zeros((3, 2)), np.zeros((3, 2)))


def test_targets_that_are_not_finite_are_named():
    targets = X[:, :2].copy()
    targets[7, 1] = np.nan
    with pytest.raises(UserError, match="example 7"):
        run(loss=squares, model=[nn.Dense(2)], data=Data((X, targets)))


def test_a_run_goes_on_with_the_same_source_only(tmp_path):
    own, other = (lambda outputs, targets: square(outputs - targets)), (lambda outputs, targets: outputs - targets)
    run(tmp_path, loss=own, epochs=1, **NUMBERS)
    assert newest_checkpoint(tmp_path).progress["loss_source"] == digest_of_source(own)
    run(tmp_path, loss=own, epochs=2, **NUMBERS)
    with pytest.raises(UserError, match=r"loss: the source of its function has changed since .*--accept loss"):
        run(tmp_path, loss=other, epochs=3, **NUMBERS)
    run(tmp_path, Start(accept=("loss",), quiet=True), loss=other, epochs=3, **NUMBERS)


def test_what_is_no_function_must_have_all_that_a_loss_has():
    class Half:
        kind = "half"

        def __call__(self, outputs, _):
            return outputs

    with pytest.raises(UserError, match="lacks"):
        as_loss(Half())
    assert as_loss(squares) == as_loss(squares)
    assert Y.dtype.kind == "i"
