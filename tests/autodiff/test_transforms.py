"""Transformations: each right, and right inside each other."""

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp import nn

RNG = np.random.default_rng(0)
A = RNG.standard_normal((4, 4))
A = A + A.T
X, V = RNG.standard_normal(4), RNG.standard_normal(4)


def quadratic(x):
    """Compute 1/2 x^T A x, with gradient A x and Hessian A."""
    return 0.5 * ad.sum_(x * ad.reshape(A @ ad.reshape(x, shape=(4, 1)), shape=(4,)))


def wavy(x):
    return ad.sum_(ad.sin(x) * x)


def is_plain(tree):
    return all(type(x) is np.ndarray or np.isscalar(x) for x in ad.transforms.tree_leaves(tree))


def test_gradient():
    np.testing.assert_allclose(ad.gradient(quadratic)(X), A @ X)
    value, g = ad.value_and_gradient(quadratic)(X)
    assert value == pytest.approx(0.5 * X @ A @ X)
    assert is_plain((value, g))


def test_gradient_by_several_arguments_and_the_rest_left_alone():
    f = lambda name, x, y: ad.sum_(x * y) if name == "product" else 0.0  # noqa: E731
    gx, gy = ad.gradient(f, by=(1, 2))("product", X, V)
    np.testing.assert_allclose(gx, V)
    np.testing.assert_allclose(gy, X)
    np.testing.assert_array_equal(ad.gradient(f, by=1)("nothing", X, V), np.zeros(4))


def test_arguments_may_be_trees():
    def f(parameters, pair):
        return ad.sum_(ad.tanh(parameters["w"]) * pair[0]) + ad.sum_(parameters["b"] * pair[1][0])

    point = {"w": X, "b": V}
    g, h = ad.gradient(f, by=(0, 1))(point, (X, [V]))
    assert list(g) == ["w", "b"]
    np.testing.assert_allclose(g["w"], (1 - np.tanh(X) ** 2) * X)
    assert type(h) is tuple
    assert type(h[1]) is list
    np.testing.assert_allclose(h[1][0], V)


def test_vjp_and_jvp_are_transposes():
    f = lambda x, y: ad.tanh(x) * y + x  # noqa: E731
    tangents, cotangent = (V, X[::-1].copy()), RNG.standard_normal(4)
    value, moved = ad.jvp(f, (X, V), tangents)
    again, pull = ad.vjp(f, X, V)
    np.testing.assert_array_equal(value, again)
    back = pull(cotangent)
    assert cotangent @ moved == pytest.approx(sum(b @ t for b, t in zip(back, tangents, strict=True)))
    assert is_plain((value, moved, back))


def test_a_linearization_is_asked_again_and_again():
    linear = ad.linearize(lambda p: ad.tanh(p["x"]) * p["y"], {"x": X, "y": V})
    np.testing.assert_array_equal(linear.value, np.tanh(X) * V)
    for _ in range(2):
        t, c = {"x": RNG.standard_normal(4), "y": RNG.standard_normal(4)}, RNG.standard_normal(4)
        moved, back = linear.push(t), linear.pull(c)
        np.testing.assert_allclose(moved, (1 - np.tanh(X) ** 2) * t["x"] * V + np.tanh(X) * t["y"])
        assert c @ moved == pytest.approx(back["x"] @ t["x"] + back["y"] @ t["y"])
        np.testing.assert_array_equal(linear.push(t | {"x": None}), np.tanh(X) * t["y"])
        np.testing.assert_array_equal(linear.push({"x": None, "y": None}), np.zeros(4))
        assert is_plain((moved, back))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_linearized_gradient_gives_products_with_the_hessian(dtype):
    point = {"x": X.astype(dtype), "y": V.astype(dtype)}
    cost = lambda p: ad.sum_(ad.sin(p["x"]) * p["y"] ** 2)  # noqa: E731
    linear = ad.linearize(ad.gradient(cost), point)
    tangent = {name: RNG.standard_normal(4).astype(dtype) for name in point}
    (expected,) = ad.hessian_product(cost, (point,), (tangent,))
    for found in (linear.push(tangent), linear.pull(tangent)):  # a Hessian is symmetric
        for name in point:
            assert found[name].dtype == dtype
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-4 if dtype == "float32" else 1e-12)
    for name, array in ad.gradient(cost)(point).items():
        np.testing.assert_array_equal(linear.value[name], array)
    (alone,) = (ad.linearize(lambda x: [ad.sin(x)], X).pull([V]),)
    np.testing.assert_allclose(alone, np.cos(X) * V)


def test_a_linearization_can_be_differentiated():
    third = lambda x: ad.sum_(ad.linearize(ad.gradient(wavy), x).push(V))  # noqa: E731
    np.testing.assert_allclose(ad.gradient(third)(X), (-3 * np.sin(X) - X * np.cos(X)) * V)
    by_vector = lambda v: ad.sum_(ad.linearize(wavy, X).push(v))  # noqa: E731
    np.testing.assert_allclose(ad.gradient(by_vector)(V), ad.gradient(wavy)(X))
    by_cotangent = lambda c: ad.sum_(ad.linearize(ad.sin, X).pull(c))  # noqa: E731
    np.testing.assert_allclose(ad.gradient(by_cotangent)(V), np.cos(X))


def test_a_linearization_refuses_what_does_not_fit():
    linear = ad.linearize(lambda p: ad.sin(p["x"]), {"x": X})
    with pytest.raises(ValueError, match="tangents must be in the form of the points: a dictionary of x"):
        linear.push({"y": V})
    with pytest.raises(ad.ShapeError, match=r"a cotangent of shape \(3,\) does not fit its value"):
        linear.pull(V[:3])
    given = X.copy()
    linear = ad.linearize(lambda x: x * given, X)
    given[0] = 7
    with pytest.raises(ValueError, match="has been changed since it was recorded"):
        linear.push(V)


@pytest.mark.parametrize("shape", [(2, 4), (4, 2), (3, 1), (0, 2)])
def test_jacobian_in_both_modes(shape):
    m = RNG.standard_normal(shape)
    f = lambda x: ad.sin(m @ ad.reshape(x, shape=(shape[1], 1)))  # noqa: E731
    x = RNG.standard_normal(shape[1])
    expected = np.cos(m @ x)[:, None, None] * m[:, None, :]
    np.testing.assert_allclose(ad.jacobian(f)(x), expected)


def test_hessian():
    np.testing.assert_allclose(ad.hessian(quadratic)(X), A)
    expected = np.diag(2 * np.cos(X) - X * np.sin(X))
    np.testing.assert_allclose(ad.hessian(wavy)(X), expected, atol=1e-12)


def test_hessian_product_is_the_hessian_times_a_vector():
    np.testing.assert_allclose(ad.hessian_product(quadratic, (X,), (V,))[0], A @ V)
    np.testing.assert_allclose(ad.hessian_product(wavy, (X,), (V,))[0], ad.hessian(wavy)(X) @ V)
    (zero,) = ad.hessian_product(ad.sum_, (X,), (V,))
    np.testing.assert_array_equal(zero, np.zeros(4))


def test_all_ways_to_a_hessian_product_agree():
    g = ad.gradient(wavy)
    expected = ad.hessian(wavy)(X) @ V
    over_reverse = ad.gradient(lambda x: ad.sum_(g(x) * V))(X)
    forward_over_reverse = ad.jvp(g, (X,), (V,))[1]
    reverse_over_forward = ad.gradient(lambda x: ad.jvp(wavy, (x,), (V,))[1])(X)
    pulled = ad.vjp(g, X)[1](V)[0]
    for way in (over_reverse, forward_over_reverse, reverse_over_forward, pulled):
        np.testing.assert_allclose(way, expected)
        assert is_plain(way)


def test_third_derivatives():
    third = ad.gradient(lambda x: ad.sum_(ad.hessian(wavy)(x)))(X)
    np.testing.assert_allclose(third, -3 * np.sin(X) - X * np.cos(X))
    forward = ad.jvp(lambda x: ad.jvp(lambda y: ad.jvp(ad.sin, (y,), (V,))[1], (x,), (V,))[1], (X,), (V,))[1]
    np.testing.assert_allclose(forward, -np.cos(X) * V**3)


def test_levels_are_kept_apart():
    """D/dx (x d/dy (x + y)) is 1: the inner derivative is not one by x (Siskind and Pearlmutter 2005)."""
    f = lambda x: x * ad.gradient(lambda y: x + y)(1.0)  # noqa: E731
    assert ad.gradient(f)(2.0) == 1
    g = lambda x: x * ad.jvp(lambda y: x * y, (1.0,), (1.0,))[1]  # noqa: E731
    assert ad.gradient(g)(3.0) == 6


def test_derivatives_by_inputs_inside_a_loss():
    """A physics-informed loss: second derivatives by the input, then the gradient by the weights."""
    w0, b0, w1 = RNG.standard_normal((1, 5)), RNG.standard_normal(5), RNG.standard_normal((5, 1))
    t = RNG.standard_normal((7, 1))

    def u(t, w0, b0, w1):
        return ad.tanh(t @ w0 + b0) @ w1

    def loss(w0, b0, w1):
        velocity = ad.gradient(lambda t: ad.sum_(u(t, w0, b0, w1)))
        acceleration = ad.gradient(lambda t: ad.sum_(velocity(t)))
        return ad.sum_((acceleration(t) + velocity(t) * u(t, w0, b0, w1)) ** 2)

    def by_hand(w0, b0, w1):
        s = np.tanh(t @ w0 + b0)
        first, second = ((1 - s**2) * w0) @ w1, (-2 * s * (1 - s**2) * w0**2) @ w1
        return np.sum((second + first * (s @ w1)) ** 2)

    assert loss(w0, b0, w1) == pytest.approx(by_hand(w0, b0, w1))
    ad.check_derivatives(loss, w0, b0, w1, tolerance=1e-5)
    g = ad.gradient(loss, by=(0, 1, 2))(w0, b0, w1)
    assert is_plain(g)
    h = 1e-6
    for i, (point, gi) in enumerate(zip((w0, b0, w1), g, strict=True)):
        direction = RNG.standard_normal(point.shape)
        plus, minus = [w0, b0, w1], [w0, b0, w1]
        plus[i], minus[i] = point + h * direction, point - h * direction
        assert np.sum(gi * direction) == pytest.approx((by_hand(*plus) - by_hand(*minus)) / (2 * h), rel=1e-5)


MODEL = nn.Sequential(nn.Dense(5, "tanh"), nn.Dense(3))
INPUTS, CLASSES = RNG.standard_normal((6, 4)), np.array([0, 2, 1, 1, 0, 2])


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (nn.CrossEntropy(), CLASSES),
        (nn.MeanSquaredError(), RNG.standard_normal((6, 3))),
        (nn.BinaryCrossEntropy(), RNG.integers(0, 2, (6, 3)).astype(float)),
    ],
)
def test_gauss_newton_product_of_a_network(loss, targets):
    parameters = nn.initial_parameters(MODEL, INPUTS, 0, "float64").parameters
    tangents = {name: RNG.standard_normal(p.shape) for name, p in parameters.items()}
    outputs = lambda p: MODEL(nn.use(p), INPUTS)  # noqa: E731
    cost = lambda z: ad.sum_(loss(z, targets)) / 6  # noqa: E731
    (product,) = ad.gauss_newton_product(outputs, cost, (parameters,), (tangents,))

    z, moved = ad.jvp(outputs, (parameters,), (tangents,))
    h = ad.hessian(cost)(z).reshape(18, 18)
    (expected,) = ad.vjp(outputs, parameters)[1]((h @ moved.ravel()).reshape(6, 3))
    for name in parameters:
        np.testing.assert_allclose(product[name], expected[name], atol=1e-12)
    curvature = sum(np.sum(product[name] * tangents[name]) for name in parameters)
    assert curvature >= 0
    assert is_plain(product)


def test_gauss_newton_equals_the_hessian_for_linear_outputs():
    m, y = RNG.standard_normal((7, 4)), RNG.standard_normal((7, 1))
    outputs = lambda x: m @ ad.reshape(x, shape=(4, 1))  # noqa: E731
    cost = lambda z: ad.sum_((z - y) ** 2)  # noqa: E731
    (product,) = ad.gauss_newton_product(outputs, cost, (X,), (V,))
    np.testing.assert_allclose(product, 2 * m.T @ (m @ V))
    np.testing.assert_allclose(product, ad.hessian_product(lambda x: cost(outputs(x)), (X,), (V,))[0])


@pytest.mark.parametrize(
    ("product", "expected"),
    [
        (lambda s: ad.gauss_newton_product(ad.tanh, lambda y: ad.sum_(ad.exp(y)), (X,), (s * V,)), 1),
        (lambda s: ad.gauss_newton_product(ad.tanh, lambda y: s * ad.sum_(ad.exp(y)), (X,), (V,)), 1),
        (lambda s: ad.gauss_newton_product(lambda x: s * x, lambda y: ad.sum_(y * y), (X,), (V,)), 2),
        (lambda s: ad.gauss_newton_product(ad.tanh, lambda y: ad.sum_(ad.exp(s * y)), (X,), (V,)), None),
        (
            lambda s: ad.gauss_newton_product(lambda x: ad.tanh(s * x), lambda y: ad.sum_(ad.exp(y)), (X,), (s * V,)),
            None,
        ),
    ],
)
def test_gauss_newton_products_are_differentiated_by_all_they_depend_on(product, expected):
    """The product has derivatives by the vector, by what the cost uses and by what the outputs use, in both modes."""
    number = lambda s: ad.sum_(product(s)[0] * V)  # noqa: E731
    ad.check_derivatives(number, 0.7)
    if expected is not None:  # the product is a power of s
        assert ad.gradient(number)(0.7) == pytest.approx(expected * number(0.7) / 0.7)


def test_by_counts_from_the_end_too():
    f = lambda x, y: ad.sum_(x * x * y)  # noqa: E731
    np.testing.assert_allclose(ad.gradient(f, by=-1)(X, V), X * X)
    for by in ((0, -1), [0, 1], (np.int64(0), 1)):
        for g, expected in zip(ad.gradient(f, by=by)(X, V), (2 * X * V, X * X), strict=True):
            np.testing.assert_allclose(g, expected)


def test_tangents_go_by_name_and_take_the_type_of_their_points():
    points, tangents = {"a": X, "b": V}, {"b": 0 * V, "a": np.ones(4)}
    np.testing.assert_allclose(ad.jvp(lambda p: p["a"] * p["b"], (points,), (tangents,))[1], V)
    single = X.astype(np.float32)
    assert ad.jvp(ad.sin, (single,), (V,))[1].dtype == np.float32
    assert ad.vjp(ad.sin, single)[1](V)[0].dtype == np.float32
    assert ad.hessian_product(wavy, (single,), ([1, 2, 3, 4],))[0].dtype == np.float32


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ad.gradient(ad.tanh)(X), ValueError, r"a gradient needs a function that returns one number.*\(4,\)"),
        (lambda: ad.gradient(ad.sum_)(np.arange(3)), TypeError, r"by int64 does not exist; give floats"),
        (lambda: ad.gradient(lambda x: (x, x))(X), TypeError, "must return one array, but this one returned a tuple"),
        (lambda: ad.gradient(lambda x: None)(X), TypeError, "must return one array, but this one returned a NoneType"),
        (lambda: ad.jvp(lambda x: "x", (X,), (V,)), TypeError, "must return one array, but this one returned a str"),
        (lambda: ad.gradient(wavy, by=1)(X), ValueError, "by=1 names argument 1, but the function was given 1"),
        (lambda: ad.gradient(wavy, by=(0, -1))(X), ValueError, "names an argument of the 1 twice"),
        (lambda: ad.hessian(wavy, by=-2)(X), ValueError, "by=-2 names argument -2"),
        (lambda: ad.jvp(ad.sin, (X,), (V[:1],)), ad.ShapeError, r"tangent of shape \(1,\) .*point, of shape \(4,\)"),
        (lambda: ad.vjp(ad.sin, X)[1](1.0), ad.ShapeError, r"cotangent of shape \(\) .*value, of shape \(4,\)"),
        (lambda: ad.hessian_product(wavy, (X,), (2.0,)), ad.ShapeError, r"tangent of shape \(\)"),
        (lambda: ad.gauss_newton_product(ad.tanh, wavy, (X,), (A,)), ad.ShapeError, r"tangent of shape \(4, 4\)"),
        (
            lambda: ad.hessian_product(ad.tanh, (X,), (V,)),
            ValueError,
            r"a Hessian needs a function that returns one number.*\(4,\)",
        ),
        (
            lambda: ad.gauss_newton_product(ad.tanh, ad.sin, (X,), (V,)),
            ValueError,
            "a Hessian needs a function that returns one number",
        ),
        (lambda: ad.gradient(lambda x: ad.sum_(x * 1j))(X), TypeError, "result of multiply must be real"),
        (lambda: ad.gradient(lambda x: ad.sum_(ad.abs_(x * 4j)))(X), TypeError, "must be real, but is complex128"),
        (lambda: ad.gradient(lambda x: 1j)(X), TypeError, "the value of a function .* must be real"),
        (lambda: ad.jvp(ad.sin, (X,), (V * 1j,)), TypeError, "a tangent must be real, but is complex128"),
        (lambda: ad.vjp(ad.sin, X)[1](V.astype("c8")), TypeError, "a cotangent must be real, but is complex64"),
        (lambda: ad.hessian_product(wavy, (X,), (V * 1j,)), TypeError, "a tangent must be real"),
        (lambda: ad.jvp(lambda x, y: x * y, (X, V), (V,)), ValueError, "form of the points: 2 of them, not 1"),
        (lambda: ad.jvp(ad.sin, (X,), V), ValueError, "form of the points: 1 of them, not ndarray"),
        (lambda: ad.jvp(lambda p: p["a"], ({"a": X},), ({"b": X},)), ValueError, "a dictionary of a"),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
