"""What all optimizers share: blocks, types, costs that are not finite, names and settings."""

import numpy as np
import pytest

from dbp.errors import UserError
from dbp.optim import OPTIMIZERS, SGD, Adam, Cosine, Outcome
from dbp.optim.blockwise import CACHE_BLOCK
from tests.optim.functions import BOWL, Function, rosenbrock, steps

ROSENBROCK = rosenbrock()


def minimize(method, function, start, count, schedule=None):
    return steps(method, function, start, count, schedule)[0]


@pytest.mark.parametrize(("method", "count"), [(SGD(1e-3, momentum=0.9), 5000), (SGD(2e-3), 30000), (Adam(2e-2), 6000)])
def test_rosenbrock(method, count):
    np.testing.assert_allclose(minimize(method, ROSENBROCK, [-1.2, 1.0], count, Cosine()), [1, 1], atol=0.02)


@pytest.mark.parametrize("method", [SGD(0.1, 0.9), Adam(0.1)])
def test_pieces_do_not_show(method):
    """A vector longer than a block is updated as its elements would be alone."""
    start = np.linspace(-1, 1, 2 * CACHE_BLOCK + 5)
    whole = minimize(method, BOWL, start, 3)
    pieces = [minimize(method, BOWL, part, 3) for part in np.split(start, [1000, CACHE_BLOCK + 7])]
    np.testing.assert_array_equal(whole, np.concatenate(pieces))


@pytest.mark.parametrize("method", [SGD(0.1, 0.9), Adam(0.1)])
def test_types_are_kept(method):
    function = Function(lambda w: float(w.sum()), lambda w: w.copy())
    w, state, _ = steps(method, function, np.ones(4, np.float32), 1)
    assert w.dtype == np.float32
    assert all(vector.dtype == np.float32 for vector in state.vectors.values())
    assert (w < 1).all()


@pytest.mark.parametrize("method", [SGD(0.1, 0.9), Adam(0.1)])
def test_what_is_not_finite_never_reaches_the_weights(method):
    w, state, taken = steps(method, Function(lambda w: np.nan, lambda w: w * np.nan), np.ones(4), 1)
    assert taken.outcome is Outcome.NOT_FINITE
    assert (w == 1).all()
    assert all((vector == 0).all() for vector in state.vectors.values())


def test_methods_by_name():
    assert OPTIMIZERS["sgd"] is SGD
    assert OPTIMIZERS["adam"] is Adam
    assert all(method.kind == kind for kind, method in OPTIMIZERS.items())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(0), "learning_rate must be a positive number, but is 0"),
        (lambda: Adam(float("nan")), "learning_rate must be a positive number, but is nan"),
        (lambda: SGD(0.1, momentum=1.0), "momentum must be at least 0 and below 1, but is 1.0"),
        (lambda: Adam(beta1=-0.1), "beta1 must be"),
        (lambda: Adam(beta2=1.0), "beta2 must be"),
        (lambda: Adam(epsilon=0.0), "epsilon must be a positive number"),
        (lambda: Cosine(warmup_steps=-1), "warmup_steps must not be negative, but is -1"),
        (lambda: Cosine(final_factor=2.0), "final_factor must be at least 0 and at most 1"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()
