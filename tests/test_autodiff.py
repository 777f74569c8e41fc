"""Every primitive's derivatives: reverse and forward against differences, and second derivatives."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dbp.autodiff as ad
from dbp.autodiff import primitives as p
from dbp.autodiff.primitives import unbroadcast

RNG = np.random.default_rng(1)
X = RNG.standard_normal((3, 4)) + np.where(RNG.random((3, 4)) < 0.5, 0.1, -0.1)
POSITIVE = np.abs(X) + 0.5
INDEX = np.array([1, 0, 3])

CASES = {
    "reshape": (lambda x: p.reshape(x, shape=(2, 6)), [X]),
    "transpose": (p.transpose, [X]),
    "broadcast_to": (lambda x: p.broadcast_to(x, shape=(5, 3, 4)), [X]),
    "sum": (lambda x: p.sum_(x, axis=0), [X]),
    "add": (p.add, [X, X[:1]]),
    "subtract": (p.subtract, [X[:, :1], X[0]]),
    "multiply": (p.multiply, [X, X[:, :1]]),
    "divide": (p.divide, [X[0], POSITIVE]),
    "negative": (p.negative, [X]),
    "power": (lambda x: x**2.5, [POSITIVE]),
    "matmul": (p.matmul, [X, X.T.copy()]),
    "exp": (p.exp, [X]),
    "log": (p.log, [POSITIVE]),
    "sin": (p.sin, [X]),
    "cos": (p.cos, [X]),
    "tanh": (p.tanh, [X]),
    "sigmoid": (p.sigmoid, [X]),
    "softplus": (p.softplus, [X]),
    "is_positive": (p.is_positive, [X]),
    "relu": (p.relu, [X]),
    "elu": (p.elu, [X]),
    "log_softmax": (p.log_softmax, [X]),
    "pick": (lambda x: p.pick(x, index=INDEX), [X]),
    "place": (lambda x: p.place(x, index=INDEX, width=5), [X[:, 0]]),
}


def test_every_primitive_has_a_case():
    assert set(CASES) == set(ad.PRIMITIVES)


@pytest.mark.parametrize("name", CASES)
def test_first_derivatives(name):
    function, points = CASES[name]
    ad.check_derivatives(function, *points)


@pytest.mark.parametrize("name", CASES)
def test_second_derivatives(name):
    """The recorded gradient of a smooth scalar of the primitive is itself checked, in both modes."""
    function, points = CASES[name]

    def gradient_norm(*leaves):
        tensors = [x if isinstance(x, ad.Tensor) else ad.Tensor(x) for x in leaves]
        output = p.sum_(p.sin(function(*tensors)))
        gradients = ad.pullback(output, np.ones(()), tensors, record=True)
        parts = [p.sum_(g * (g + 1.0)) for g in gradients if g is not None]
        return sum(parts[1:], start=parts[0]) if parts else p.sum_(0.0 * tensors[0])

    ad.check_derivatives(gradient_norm, *points, tolerance=1e-5)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_types_are_kept(name, dtype):
    function, points = CASES[name]
    leaves = [ad.Tensor(x.astype(dtype)) for x in points]
    output = function(*leaves)
    assert output.dtype == dtype
    for g in ad.pullback(output, np.ones(output.shape, dtype), leaves):
        assert g is None or g.dtype == dtype


def test_a_first_derivative_makes_no_tensor():
    leaf = ad.Tensor(X)
    output = p.sum_(p.tanh(leaf) @ X.T)
    before = ad.Tensor(0.0).created
    (gradient,) = ad.pullback(output, np.ones(()), [leaf])
    assert type(gradient) is np.ndarray
    assert ad.Tensor(0.0).created == before + 1


def test_plain_arrays_give_plain_arrays():
    assert type(p.tanh(X) @ X.T) is np.ndarray


def test_an_unused_leaf_has_no_gradient():
    leaf, unused = ad.Tensor(X), ad.Tensor(X)
    assert ad.pullback(p.sum_(leaf), np.ones(()), [leaf, unused])[1] is None
    value, (gx, gy) = ad.value_and_gradient(lambda x, y: p.sum_(x * x), X, X)
    np.testing.assert_allclose(gx, 2 * X)
    assert not gy.any()
    assert value == pytest.approx(np.sum(X * X))


def test_gradient_by_an_intermediate_result():
    x = ad.Tensor(X)
    y = x * x
    z = p.sum_(y * y)
    gx, gy = ad.pullback(z, np.ones(()), [x, y])
    np.testing.assert_allclose(gy, 2 * X**2)
    np.testing.assert_allclose(gx, 4 * X**3)


def test_gradient_needs_a_scalar():
    with pytest.raises(ValueError, match=r"one number.*\(3, 4\)"):
        ad.value_and_gradient(p.tanh, X)


def test_deep_graphs_need_no_recursion():
    x = ad.Tensor(np.ones(2))
    y = x
    for _ in range(5000):
        y = y + x
    (g,) = ad.pullback(p.sum_(y), np.ones(()), [x])
    np.testing.assert_array_equal(g, [5001, 5001])


def test_the_check_notices_a_wrong_rule():
    wrong = lambda x: ad.Tensor(x.value**2, p.tanh, (x,)) if isinstance(x, ad.Tensor) else x**2  # noqa: E731
    with pytest.raises(AssertionError, match="forward derivative"):
        ad.check_derivatives(wrong, X)


def test_large_arguments_stay_finite():
    big = np.array([-1e4, 0.0, 1e4])
    for f in (p.sigmoid, p.softplus, p.log_softmax, p.elu):
        assert np.isfinite(f(big)).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=3), st.data())
def test_unbroadcast_undoes_broadcasting(shape, data):
    kept = data.draw(st.integers(0, len(shape)))
    small = [data.draw(st.sampled_from([1, n])) for n in shape[len(shape) - kept :]]
    x = np.zeros(small)
    g = np.ones(np.broadcast_shapes(shape, small))
    result = unbroadcast(g, x)
    assert result.shape == x.shape
    assert result.sum() == pytest.approx(g.sum())


def test_entries_are_short():
    for name in ad.PRIMITIVES:
        function = next(v for v in vars(p).values() if getattr(v, "name", None) == name)
        for rule in [*function.reverse, *function.forward]:
            assert rule is None or len(inspect.getsource(rule).splitlines()) <= 8
