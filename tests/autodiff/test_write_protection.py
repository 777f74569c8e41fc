"""Arrays that a graph depends on: protected while it lives, and compared where they cannot be."""

import numpy as np
import pytest

import dbp.autodiff as ad

RNG = np.random.default_rng(0)
A = RNG.standard_normal((4, 4))
A = A + A.T
X, V = RNG.standard_normal(4), RNG.standard_normal(4)


def quadratic(x):
    """Compute 1/2 x^T A x, with gradient A x and Hessian A."""
    return 0.5 * ad.sum_(x * ad.reshape(A @ ad.reshape(x, shape=(4, 1)), shape=(4,)))


def test_derivatives_are_those_at_the_points_as_they_were():
    z = X.copy()
    value, pull = ad.vjp(ad.sin, z)
    z[:] = 0
    np.testing.assert_allclose(pull(V)[0], np.cos(X) * V)
    np.testing.assert_allclose(value, np.sin(X))

    def overwritten(a):
        y = a * a
        z[:] = 10
        return ad.sum_(y)

    z[:] = X
    np.testing.assert_allclose(ad.gradient(overwritten)(z), 2 * X)


@pytest.mark.parametrize("view", [lambda b: b, lambda b: b[::-1], lambda b: np.frombuffer(bytearray(b.tobytes()))])
def test_an_array_is_not_changed_while_derivatives_depend_on_it(view):
    b, index = view(V.copy()), np.array([0, 1])

    def scaled(a):
        y = a * b
        b[0] += 1
        return ad.sum_(y)

    def picked(a):
        y = a[index]
        index[0] += 1
        return ad.sum_(y)

    transforms = [
        lambda f: ad.gradient(f)(X),
        lambda f: ad.vjp(f, X),
        lambda f: ad.jvp(f, (X,), (V,)),
        lambda f: ad.hessian(f)(X),
        lambda f: ad.gradient(lambda s: ad.gradient(lambda a: s * f(a))(X)[0])(2.0),
    ]
    for transform in transforms:
        for function in (scaled, picked):
            with pytest.raises(ValueError, match="read-only") as caught:
                transform(function)
            assert "make new arrays instead" in caught.value.__notes__[0]
    assert b.flags.writeable
    assert index.flags.writeable
    np.testing.assert_array_equal(b, view(V))


def test_an_array_is_not_changed_before_the_outer_derivative_is_found():
    b = V.copy()

    def outer(s):
        inner = ad.gradient(lambda a: ad.sum_(s * a * b))(X)
        b[:] = 0
        return ad.sum_(inner * inner)

    with pytest.raises(ValueError, match="read-only"):
        ad.gradient(outer)(2.0)
    b[:] = 0  # writable again

    def apart(s):
        w = X.copy()
        for _ in range(2):
            w -= 0.1 * ad.gradient(lambda a: ad.sum_(a * a))(w)
        return s * s

    assert ad.gradient(apart)(2.0) == 4  # an inner derivative of its own leaves nothing behind


def test_a_pullback_tells_of_changed_arrays():
    b = V.copy()
    _, pull = ad.vjp(lambda a: a * b, X)
    np.testing.assert_allclose(pull(V)[0], V * V)
    b[1] = 7
    with pytest.raises(ValueError, match=r"an array of shape \(4,\) has been changed since it was recorded"):
        pull(V)


def test_memory_that_cannot_be_made_writable_again_is_compared():
    b = pytest.importorskip("torch").ones(4).numpy()
    assert b.flags.writeable

    def scaled(a):
        y = a * b
        b[0] += 1
        return ad.sum_(y)

    with pytest.raises(ValueError, match="has been changed since it was recorded"):
        ad.gradient(scaled)(X)
    assert b.flags.writeable


def test_results_are_writable_arrays_of_their_own():
    both = lambda x, y: x + y  # noqa: E731
    x, v = X.copy(), V.copy()
    value, pull = ad.vjp(both, x, v)
    results = [value, *pull(v), *pull(v), *ad.jvp(lambda a: a, (x,), (v,)), ad.gradient(ad.sum_)(x)]
    results += [*ad.gradient(lambda a, b: ad.sum_(a + b), (0, 1))(x, v), ad.vjp(lambda a: x, v)[0]]
    results += [*ad.hessian_product(lambda a: ad.sum_(a * a) / 2, (x,), (v,)), ad.hessian(quadratic)(x)]
    results += ad.gauss_newton_product(lambda a: a, lambda a: ad.sum_(a * a) / 2, (x,), (v,))
    results += [ad.jacobian(lambda a: a)(x), *ad.value_and_gradient(quadratic)(x)]
    for i, result in enumerate(results):
        assert result.flags.writeable
        assert not any(np.shares_memory(result, other) for other in (x, v, *results[:i]))
