"""Tensors: what they share with arrays, what they refuse, and gradients of graphs of them."""

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp.autodiff import primitives as p

RNG = np.random.default_rng(1)
LARGE = (1100, 700)  # of which a product computes 512 rows at most
X = RNG.standard_normal((3, 4)) + np.where(RNG.random((3, 4)) < 0.5, 0.1, -0.1)


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


def test_gradient_by_an_intermediate_result():
    x = ad.Tensor(X)
    y = x * x
    z = p.sum_(y * y)
    gx, gy = ad.pullback(z, np.ones(()), [x, y])
    np.testing.assert_allclose(gy, 2 * X**2)
    np.testing.assert_allclose(gx, 4 * X**3)


def test_deep_graphs_need_no_recursion():
    x = ad.Tensor(np.ones(2))
    y = x
    for _ in range(5000):
        y = y + x
    (g,) = ad.pullback(p.sum_(y), np.ones(()), [x])
    np.testing.assert_array_equal(g, [5001, 5001])


def test_a_recorded_array_is_not_changed_in_place():
    x = ad.Tensor(X)
    with pytest.raises(TypeError, match="cannot be changed in place"):
        x[0] = 1.0


def test_comparisons_are_of_numbers():
    x, y = ad.Tensor(X), ad.Tensor(X[::-1].copy())
    for mask, expected in [
        (x > 0, X > 0),
        (x >= y, X[::-1] <= X),
        (x == X, X == X),
        (np.not_equal(X, y), X[::-1] != X),
        (0.5 < x, X > 0.5),  # noqa: SIM300
        (np.less_equal(X, x), X == X),
    ]:
        assert type(mask) is np.ndarray
        np.testing.assert_array_equal(mask, expected)
    assert len({x, x, y}) == 2
    ad.check_derivatives(lambda a: p.where(a > 0, a * a, -a), X)
    ad.check_derivatives(lambda a: p.square(a[a > 0.2]), X)


def test_the_plain_numbers_of_a_tensor_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        ad.array_of(ad.Tensor(X.copy()))[0] = 1


def test_tensors_are_sequences():
    row = ad.Tensor(X[0])
    a, b, c, d = row
    np.testing.assert_array_equal([x.value for x in (a, b, c, d)], X[0])
    ad.check_derivatives(lambda x: p.square(sum(x)), X)
    assert X[0, 1] in row
    assert 77.0 not in row
    assert [rows.shape for rows in ad.Tensor(X)] == [(4,)] * 3


def test_operators_between_arrays_and_tensors():
    x, y = ad.Tensor(X), X[:1] + 3
    for value in (np.float64(2), np.float32(2), y):
        np.testing.assert_array_equal((value * x).value, value * X)
        np.testing.assert_array_equal((value - x).value, value - X)
        np.testing.assert_array_equal((value / x).value, value / X)
    assert (np.float32(2) * ad.Tensor(X.astype(np.float32))).dtype == np.float32
    ad.check_derivatives(lambda a: np.float64(2) ** a + abs(a) + (+a), X)
    for operand in ([1.0, 2.0, 3.0, 4.0], (1.0, 2.0, 3.0, 4.0)):
        ad.check_derivatives(lambda a, operand=operand: operand * a / operand + operand - a, X)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: np.cbrt(x), "np.cbrt records no derivative; use functions of dbp.autodiff, or array_of"),
        (lambda x: np.median(x), "np.median records no derivative"),
        (lambda x: np.add(x, 1, out=np.zeros(3)), "np.add of a recorded array takes inputs alone"),
        (lambda x: np.add.reduce(x), "np.add.reduce records no derivative"),
        (lambda x: np.sum(x, dtype=np.float32), "np.sum of a recorded array takes a, axis, keepdims alone"),
        (lambda x: x.mean(0, np.float32), "np.mean of a recorded array takes a, axis, keepdims alone"),
        (lambda x: np.linalg.norm(x, 3), "np.linalg.norm of a recorded array takes ord 1, 2 and inf"),
        (lambda x: np.linalg.eigvalsh(x), "np.linalg.eigvalsh records no derivative"),
        (lambda x: np.pad(x, 1, "edge"), "np.pad of a recorded array takes mode 'constant' alone"),
        (lambda x: np.asarray(x), "its derivative would be lost"),
        (lambda x: x * [x[0], x[1], x[2]], r"stack\(\) for a list of recorded arrays"),
        (lambda x: p.add([x[0], x[1], x[2]], np.ones(3)), r"stack\(\) for a list of recorded arrays"),
        (lambda x: p.sum_([x, x]), r"stack\(\) for a list of recorded arrays"),
        (lambda x: float(x[0]), r"float\(x\) of a recorded x loses its derivative"),
        (lambda x: p.add(x, 1, 2), "add takes 2 inputs, but 3 were given"),
        (lambda x: p.reshape(x, (3, 1), 2, 3), "reshape takes 1 inputs and the options shape, but 4 were given"),
    ],
)
def test_what_would_lose_derivatives_is_refused(call, message):
    with pytest.raises(TypeError, match=message):
        call(ad.Tensor(np.arange(3.0)))


def test_options_may_be_given_in_their_order():
    for x in (X, ad.Tensor(X)):
        for got, expected in [
            (p.reshape(x, (2, 6)), X.reshape(2, 6)),
            (p.sum_(x, 0), X.sum(0)),
            (p.transpose(x, (1, 0)), X.T),
            (p.clip(x, -0.5, 0.8), X.clip(-0.5, 0.8)),
            (p.max_(x, 1), X.max(1)),
            (p.broadcast_to(x, (2, 3, 4)), np.broadcast_to(X, (2, 3, 4))),
        ]:
            np.testing.assert_array_equal(ad.array_of(got), expected)
    ad.check_derivatives(lambda x: p.square(p.sum_(p.clip(x, -0.5, 0.8), 0)), X)


def test_a_large_gradient_is_ready_piece_by_piece_from_its_end():
    x, w, b = RNG.standard_normal((5, LARGE[0])), ad.Tensor(RNG.standard_normal(LARGE)), ad.Tensor(np.ones(LARGE[1]))
    into, seen = [np.full(LARGE, np.nan), np.full(LARGE[1], np.nan)], []

    def on_ready(number, start):
        seen.append((number, start))
        assert not np.isnan(into[number].reshape(-1)[start:]).any()
        if start:
            assert np.isnan(into[number].reshape(-1)[:start]).all()

    y = ad.dense_block(x, w, b, activation="relu")
    ad.pullback(y, np.ones(y.shape), [w, b], into=into, on_ready=on_ready)
    starts = [start for number, start in seen if number == 0]
    assert starts == sorted(starts, reverse=True)
    assert len(starts) > 2
    assert starts[-1] == 0
    assert seen.index((1, 0)) < seen.index((0, starts[0]))  # what lies behind comes first
    slope = (y.value > 0).astype(float)
    np.testing.assert_allclose(into[0], x.T @ slope, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(into[1], slope.sum(axis=0))
