"""Every primitive's derivatives: reverse and forward against differences, and second derivatives."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dbp.autodiff as ad
from dbp.autodiff import primitives as p
from dbp.autodiff.primitives.error_function import erfc
from dbp.autodiff.primitives.shapes import unbroadcast

RNG = np.random.default_rng(1)
LARGE = (1000, 600)  # of a layer's weights, whose gradient is computed in pieces
X = RNG.standard_normal((3, 4)) + np.where(RNG.random((3, 4)) < 0.5, 0.1, -0.1)
POSITIVE = np.abs(X) + 0.5
INDEX = np.array([1, 0, 3])

CUBE = RNG.standard_normal((2, 3, 4))
ROWS = np.array([2, 0, 2])

IMAGES = RNG.standard_normal((2, 5, 4, 4)) * 2
KERNEL = RNG.standard_normal((2, 3, 2, 6))
WINDOW = p.Window((2, 3), (2, 1), ((1, 0), (1, 1)), (2, 1))
HOW = {"window": WINDOW, "groups": 2}
POOL = p.Window((2, 2), (2, 1), ((0, 1), (0, 1)))
OUTPUTS = RNG.standard_normal((2, *WINDOW.positions((5, 4)), 6))
POOLED = RNG.standard_normal((2, *POOL.positions((5, 4)), 4))
TAPS = RNG.integers(0, 4, POOLED.shape)

CASES = {
    "identity": (p.identity, [X]),
    "reshape": (lambda x: p.reshape(x, shape=(2, 6)), [X]),
    "transpose": (lambda x: p.transpose(x, axes=(2, 0, 1)), [CUBE]),
    "broadcast_to": (lambda x: p.broadcast_to(x, shape=(5, 3, 4)), [X]),
    "sum": (lambda x: p.sum_(x, axis=0), [X]),
    "concatenate": (lambda *xs: p.concatenate(*xs, axis=-1), [X, X[:, :1], X[:, :2]]),
    "pad": (lambda x: p.pad(x, width=((1, 0), (2, 3))), [X]),
    "take": (lambda x: p.take(x, index=(ROWS, slice(1, 3))), [X]),
    "put": (lambda x: p.put(x, index=(ROWS, slice(1, 3)), shape=(4, 5)), [X[:, :2]]),
    "add": (p.add, [X, X[:1]]),
    "subtract": (p.subtract, [X[:, :1], X[0]]),
    "multiply": (p.multiply, [X, X[:, :1]]),
    "divide": (p.divide, [X[0], POSITIVE]),
    "negative": (p.negative, [X]),
    "power": (p.power, [POSITIVE, X[0]]),
    "matmul": (p.matmul, [CUBE, X.T.copy()]),
    "einsum": (lambda *xs: p.einsum(*xs, rule="bij,jk,kl->bl"), [CUBE, X.T.copy(), X]),
    "maximum": (p.maximum, [X, X[:1] * 0.9]),
    "minimum": (p.minimum, [X, X[:, :1] + 0.07]),
    "where": (lambda a, b: p.where(X > 0, a, b), [X, X[:1]]),
    "clip": (lambda x: p.clip(x, low=-0.5, high=0.8), [X]),
    "is_inside": (lambda x: ad.PRIMITIVES["is_inside"](x, low=-0.5, high=0.8), [X]),
    "is_positive": (p.is_positive, [X]),
    "is_equal": (p.is_equal, [X, X + 1]),
    "sign": (p.sign, [X]),
    "exp": (p.exp, [X]),
    "log": (p.log, [POSITIVE]),
    "log1p": (p.log1p, [POSITIVE]),
    "expm1": (p.expm1, [X]),
    "sqrt": (p.sqrt, [POSITIVE]),
    "square": (p.square, [X]),
    "abs": (p.abs_, [X]),
    "sin": (p.sin, [X]),
    "cos": (p.cos, [X]),
    "tanh": (p.tanh, [X]),
    "sigmoid": (p.sigmoid, [X]),
    "softplus": (p.softplus, [X]),
    "relu": (p.relu, [X]),
    "gate": (lambda g: p.gate(g, X), [X + 1]),
    "convolve": (lambda x, w: p.convolve(x, w, **HOW), [IMAGES, KERNEL]),
    "convolve_back": (lambda g, w: p.convolve_back(g, w, image=(5, 4), **HOW), [OUTPUTS, KERNEL]),
    "convolve_weights": (lambda x, g: p.convolve_weights(x, g, **HOW), [IMAGES, OUTPUTS]),
    "max_pool": (lambda x: p.max_pool(x, window=POOL), [IMAGES]),
    "tap_gather": (lambda x: p.tap_gather(x, taps=TAPS, window=POOL), [IMAGES]),
    "tap_scatter": (lambda g: p.tap_scatter(g, taps=TAPS, window=POOL, image=(5, 4)), [POOLED]),
    "window_sum": (lambda x: p.window_sum(x, window=POOL), [IMAGES]),
    "window_spread": (lambda g: p.window_spread(g, window=POOL, image=(5, 4)), [POOLED]),
    "elu": (p.elu, [X]),
    "dense_block": (lambda x, w, b: ad.dense_block(x, w, b, relu_after=True), [CUBE, X.T.copy(), X[0, :3]]),
    "convolution_block": (
        lambda x, w, b: ad.convolution_block(x, w, b, window=WINDOW, relu_after=True, pool=2),
        [IMAGES[..., :2], KERNEL, X[0, :1].repeat(6)],
    ),
    "normalize_block": (
        lambda x, scale, shift: ad.normalize_block(x, scale, shift, axes=(0, 2), epsilon=0.1),
        [CUBE, X + 0.3, X[:, :1]],
    ),
    "cross_entropy_block": (lambda z: ad.cross_entropy_block(z, targets=INDEX), [X]),
    "max": (lambda x: p.max_(x, axis=1), [X]),
    "logsumexp": (lambda x: p.logsumexp(x, axis=0), [X]),
    "erfc": (erfc, [X]),
    "log_softmax": (p.log_softmax, [X]),
    "softmax": (p.softmax, [X]),
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
    blocks = {name for name, primitive in ad.PRIMITIVES.items() if name.endswith("_block")}
    for primitive in (ad.PRIMITIVES[name] for name in ad.PRIMITIVES.keys() - blocks):
        for rules in (primitive.reverse, primitive.forward):
            for rule in [rules] if callable(rules) else rules:
                assert rule is None or len(inspect.getsource(rule).splitlines()) <= 8


# --- random shapes, empty and of length one too -----------------------------------------------------

SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)


def numbers(shape, seed=0):
    """Numbers that are at least 0.05 from each other and from zero, so that no kink is near."""
    size = int(np.prod(shape))
    order = np.random.default_rng(seed).permutation(size)
    return ((order + 1) * 0.07 * np.where(order % 2, 1, -1)).reshape(shape)


@st.composite
def broadcasting_pairs(draw):
    shape = draw(SHAPES)
    other = tuple(draw(st.sampled_from([1, n])) for n in shape[draw(st.integers(0, len(shape))) :])
    return (shape, other) if draw(st.booleans()) else (other, shape)


UNARY = ["exp", "log1p", "expm1", "sqrt", "abs", "sin", "cos", "tanh", "sigmoid", "softplus", "relu", "elu", "negative"]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(UNARY), SHAPES)
def test_functions_of_one_number_on_any_shape(name, shape):
    x = numbers(shape)
    ad.check_derivatives(ad.PRIMITIVES[name], np.abs(x) if name in ("log1p", "sqrt") else x, tolerance=1e-4)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["add", "subtract", "multiply", "divide", "maximum", "minimum"]), broadcasting_pairs())
def test_arithmetic_on_any_shapes(name, shapes):
    a, b = numbers(shapes[0]), numbers(shapes[1], 1) + 0.035
    ad.check_derivatives(ad.PRIMITIVES[name], a, b, tolerance=1e-4)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([p.sum_, p.mean, p.variance, p.max_, p.logsumexp]), st.data())
def test_reductions_over_any_axes(function, data):
    shape = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple))
    axes = data.draw(st.none() | st.integers(-len(shape), len(shape) - 1))
    if axes is not None and data.draw(st.booleans()):
        axes = tuple({axes % len(shape), data.draw(st.integers(0, len(shape) - 1))})
    ad.check_derivatives(lambda x: function(x, axis=axes), numbers(shape), tolerance=1e-4)
    reference = {p.sum_: np.sum, p.mean: np.mean, p.variance: np.var, p.max_: np.max}.get(function)
    if reference:
        np.testing.assert_allclose(
            function(numbers(shape), axis=axes), reference(numbers(shape), axis=axes), atol=1e-12
        )


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=3, max_size=3), SHAPES.filter(lambda s: len(s) < 3), st.booleans())
def test_matmul_of_any_stacks(sizes, stack, both):
    m, k, n = sizes
    ad.check_derivatives(p.matmul, numbers((*stack, m, k)), numbers((*stack, k, n) if both else (k, n)), tolerance=1e-4)


@pytest.mark.parametrize(
    ("rule", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("ij->", [(2, 3)]),
        ("ij->ji", [(2, 3)]),
        ("bi,bj->bij", [(2, 3), (2, 4)]),
        ("ij,k->k", [(2, 3), (4,)]),
        ("bhqd,bhkd->bhqk", [(2, 2, 3, 4), (2, 2, 5, 4)]),
        ("ij,jk,kl->il", [(0, 3), (3, 1), (1, 2)]),
    ],
)
def test_einsum(rule, shapes):
    xs = [numbers(shape, i) for i, shape in enumerate(shapes)]
    np.testing.assert_allclose(p.einsum(*xs, rule=rule), np.einsum(rule, *xs))
    ad.check_derivatives(lambda *xs: p.einsum(*xs, rule=rule), *xs, tolerance=1e-4)


@pytest.mark.parametrize(
    ("rule", "shapes"),
    [
        ("ij,jk->ik", [(2, 1), (3, 4)]),
        ("ij,ij->i", [(1, 3), (2, 1)]),
        ("ii->", [(3, 3)]),
        ("ii->i", [(3, 3)]),
        ("bii,i->b", [(2, 3, 3), (3,)]),
        ("iji,i", [(2, 3, 2), (2,)]),
        ("iii", [(2, 2, 2)]),
        ("ji", [(2, 3)]),
        ("ij,jk", [(2, 3), (3, 4)]),
        ("...ij,jk->...ik", [(5, 2, 3), (3, 4)]),
        ("...i,...i", [(5, 2, 3), (2, 3)]),
        ("...i->i...", [(5, 2, 3)]),
        ("..., ...", [(), (2, 3)]),
    ],
)
def test_einsum_by_every_rule_of_numpy(rule, shapes):
    xs = [numbers(shape, i) for i, shape in enumerate(shapes)]
    np.testing.assert_allclose(p.einsum(*xs, rule=rule), np.einsum(rule, *xs))
    ad.check_derivatives(lambda *xs: p.square(p.einsum(*xs, rule=rule)), *xs, tolerance=1e-4)


@pytest.mark.parametrize(
    "shapes",
    [((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((5, 2, 3), (3,)), ((3,), (5, 3, 2)), ((0,), (0,)), ((3,), (3, 0))],
)
def test_matmul_of_vectors(shapes):
    a, b = (numbers(shape, i) for i, shape in enumerate(shapes))
    np.testing.assert_allclose((ad.Tensor(a) @ b).value, a @ b)
    ad.check_derivatives(lambda a, b: p.sin(a @ b), a, b)
    ad.check_derivatives(lambda a, b: ad.gradient(lambda x: p.sum_(p.sin(x @ b)))(a), a, b)
    np.testing.assert_allclose((ad.Tensor(a) @ b.tolist()).value, a @ b)


@pytest.mark.parametrize("width", [1, (1, 2), ((1, 2),), ((0, 1), (2, 0))])
def test_widths_of_padding(width):
    np.testing.assert_array_equal(p.pad(X, width), np.pad(X, width))
    ad.check_derivatives(lambda x: p.square(p.pad(x, width)), X)


@pytest.mark.parametrize("axis", [None, 1, -1, [0, 2], (1, -1), np.int64(0), ()])
@pytest.mark.parametrize("function", [(p.sum_, np.sum), (p.mean, np.mean), (p.max_, np.max)])
def test_axes_and_those_kept(function, axis):
    ours, numpys = function
    axes = tuple(axis) if isinstance(axis, list) else axis
    for keepdims in (False, True):
        got = ours(CUBE, axis=axis, keepdims=keepdims)
        np.testing.assert_allclose(got, numpys(CUBE, axis=axes, keepdims=keepdims))
        ad.check_derivatives(lambda x, keep=keepdims: p.square(ours(x, axis=axis, keepdims=keep)), CUBE)
    ad.check_derivatives(lambda x: p.logsumexp(x, axis=axis), CUBE)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_along_any_axis(axis):
    np.testing.assert_allclose(p.softmax(CUBE, axis=axis).sum(axis), 1)
    np.testing.assert_allclose(np.exp(p.log_softmax(CUBE, axis)), p.softmax(CUBE, axis))
    for function in (p.softmax, p.log_softmax):
        ad.check_derivatives(lambda x, f=function: p.square(f(x, axis=axis)), CUBE)


def test_sums_of_exponentials_at_their_ends():
    low = -np.inf
    rows = np.array([[low, low], [low, 1.0], [1e4, 1e4]])
    np.testing.assert_allclose(p.logsumexp(rows, axis=1), [low, 1, 1e4 + np.log(2)])
    np.testing.assert_allclose(
        ad.gradient(lambda x: p.sum_(p.logsumexp(x, axis=1)))(rows), [[0, 0], [0, 1], [0.5, 0.5]]
    )
    assert p.logsumexp(np.array([np.inf, 0.0])) == np.inf
    np.testing.assert_array_equal(p.logsumexp(np.zeros((2, 0)), axis=1), [low, low])
    for function in (p.softmax, p.log_softmax):
        assert function(np.zeros((2, 0))).shape == (2, 0)
        ad.check_derivatives(function, np.zeros((2, 0)))


def test_masked_scores_have_a_tangent():
    mask, masked = X > 0, lambda x: p.where(X > 0, x, -np.inf)
    np.testing.assert_array_equal(ad.jvp(masked, (X,), (X,))[1], np.where(mask, X, 0))
    weights = lambda x: p.softmax(masked(x))  # noqa: E731
    value, tangent = ad.jvp(weights, (X,), (X,))
    np.testing.assert_allclose(tangent, value * (X - np.sum(value * X, axis=-1, keepdims=True)))
    assert ad.jvp(masked, (X.astype(np.float32),), (X,))[1].dtype == np.float32


def test_powers_at_zero():
    x = np.array([0.0, 2.0])
    power = lambda n: lambda x: p.sum_(x**n)  # noqa: E731
    for n in (0, 0.0, np.array([0.0, 0.0])):
        np.testing.assert_array_equal(ad.gradient(power(n))(x), [0, 0])
    for n in (1, 1.0, np.array([1.0, 1.0])):
        np.testing.assert_array_equal(ad.hessian(power(n))(x), np.zeros((2, 2)))
    for n in (2, 2.0, np.array([2.0, 2.0])):
        third = ad.gradient(lambda x, n=n: p.sum_(ad.hessian(power(n))(x)))
        np.testing.assert_array_equal(third(x), [0, 0])
    by_exponent = ad.gradient(lambda b: p.sum_(x**b))
    np.testing.assert_allclose(by_exponent(np.array([2.0, 3.0])), [0, 8 * np.log(2)])
    np.testing.assert_allclose(ad.gradient(lambda b: p.sum_(by_exponent(b)))(np.ones(2))[0], 0)
    ad.check_derivatives(lambda x, n: ad.gradient(lambda x: p.sum_(x**n))(x), x + 1, np.zeros(2))


def test_powers_of_numbers_keep_the_type():
    for base in (2.0, 2, np.float32(2)):
        assert ad.gradient(lambda a, base=base: p.sum_(base**a))(X.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("function", [p.softplus, p.sigmoid, p.elu, p.relu, p.tanh, p.softmax, p.logsumexp])
def test_numbers_and_lists(function):
    np.testing.assert_array_equal(function([1.0, -2.0]), function(np.array([1.0, -2.0])))
    if function is not p.softmax:
        assert function(1.0) == function(np.array(1.0))


@pytest.mark.parametrize("index", [0, slice(1, None), (slice(None), -1), (..., 0), ROWS, X > 0, (ROWS, ROWS), None])
def test_indexing_as_numpy_does(index):
    leaf = ad.Tensor(X)
    np.testing.assert_array_equal(leaf[index].value, X[index])
    ad.check_derivatives(lambda x: p.take(x, index=index), X)


@pytest.mark.parametrize(
    "index", [((0, 0, 1),), ([0, 0, 1],), [0, 0, 1], (range(2), (1, 1)), ((0, 0), slice(1, 3)), True]
)
def test_places_named_twice_add_up(index):
    ad.check_derivatives(lambda x: p.square(p.take(x, index=index)), X)
    np.testing.assert_array_equal(ad.gradient(lambda x: p.sum_(x[((0, 0, 1),)] * 1.0))(X[0]), [2, 1, 0, 0])


@pytest.mark.parametrize("axes", [(-1, 0, 1), (1, -1, 0), (-2, -3, -1), [2, 0, 1]])
def test_axes_counted_from_the_end(axes):
    np.testing.assert_array_equal(p.transpose(CUBE, axes=axes), np.transpose(CUBE, axes))
    ad.check_derivatives(lambda x: p.square(p.transpose(x, axes=axes)), CUBE)


def test_stack_and_split_undo_each_other():
    parts = p.split(ad.Tensor(CUBE), 2, axis=2)
    assert [part.shape for part in parts] == [(2, 3, 2)] * 2
    np.testing.assert_array_equal(p.concatenate(*parts, axis=2).value, CUBE)
    np.testing.assert_array_equal(p.stack([X, X + 1], axis=1), np.stack([X, X + 1], axis=1))
    ad.check_derivatives(lambda a, b: p.stack([a, b], axis=-1), X, X + 1)
    with pytest.raises(ValueError, match="cannot be cut into 3 equal parts"):
        p.split(X, 3, axis=1)


def test_ties_share_the_derivative():
    x = ad.Tensor(np.array([1.0, 3.0, 3.0]))
    np.testing.assert_array_equal(ad.pullback(p.max_(x), np.ones(()), [x])[0], [0, 0.5, 0.5])
    a, b = ad.Tensor(np.ones(1)), ad.Tensor(np.ones(1))
    assert [g.item() for g in ad.pullback(p.maximum(a, b), np.ones(1), [a, b])] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ad.Tensor(X) @ X, r"matmul of shapes \(3, 4\) and \(3, 4\): "),
        (lambda: X.T @ ad.Tensor(X[:2]), r"matmul of shapes \(4, 3\) and \(2, 4\): "),
        (lambda: ad.Tensor(X) + np.ones(3), r"add of shapes \(3, 4\) and \(3,\): "),
        (lambda: p.reshape(X, shape=(5, 5)), r"reshape of shapes \(3, 4\): "),
        (lambda: ad.Tensor(X)[7], r"take of shapes \(3, 4\): index 7 is out of bounds"),
        (lambda: ad.Tensor(X) * np.ones(3), r"multiply .*lengths must be equal, or 1, axis by axis from the last"),
        (
            lambda: X[:2, :3] @ ad.Tensor(np.ones((2, 8))),
            r"\(2, 3\) and \(2, 8\): the last axis of the left, 3, must be "
            "as long as the first of the right, 2",
        ),
        (lambda: ad.Tensor(CUBE) @ CUBE, "4, must be as long as the last but one of the right, 3"),
        (lambda: ad.Tensor(CUBE) @ np.ones((3, 4, 1)), r"not their stacks: \(2,\) and \(3,\) must"),
        (lambda: ad.Tensor(X) @ 2.0, r"a number has no axis to sum over; multiply by it with \*"),
        (lambda: p.reshape(X[0], shape=(3,)), r"reshape of shapes \(4,\): 4 elements do not fit \(3,\)"),
        (lambda: p.concatenate(X, X.T), r"\(3, 4\) and \(4, 3\): .*of equal lengths but for axis 0"),
        (lambda: p.einsum(X, rule="ijk->"), r"the term 'ijk' does not fit the 2 axes of \(3, 4\)"),
        (lambda: p.einsum(X, X, rule="ij"), "the rule has 1 terms for 2 inputs"),
        (lambda: p.einsum(X, rule="ij->ii"), r"einsum of shapes .*letters of the inputs, each once"),
    ],
)
def test_shapes_that_do_not_fit_are_named(call, message):
    with pytest.raises(ad.ShapeError, match=message):
        call()


def test_a_recorded_array_is_not_changed_in_place():
    x = ad.Tensor(X)
    with pytest.raises(TypeError, match="cannot be changed in place"):
        x[0] = 1.0


# --- tensors as arrays --------------------------------------------------------------------------------


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
        (lambda x: np.sin(x), "np.sin records no derivative: use dbp.autodiff.sin"),
        (lambda x: np.abs(x), "use dbp.autodiff.abs_"),
        (lambda x: np.add(x, 1, out=np.zeros(3)), "np.add into an array .*use dbp.autodiff.add"),
        (lambda x: np.add.reduce(x), "use dbp.autodiff.add"),
        (lambda x: np.mean(x), "np.mean records no derivative: use dbp.autodiff.mean"),
        (lambda x: np.sum(x), "use dbp.autodiff.sum_"),
        (lambda x: np.concatenate([x, x]), "use dbp.autodiff.concatenate"),
        (lambda x: np.where(x > 0, x, 0), "use dbp.autodiff.where"),
        (lambda x: np.linalg.norm(x), "np.norm .*use the functions of dbp.autodiff, or array_of"),
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

    y = ad.dense_block(x, w, b, relu_after=True)
    ad.pullback(y, np.ones(y.shape), [w, b], into=into, on_ready=on_ready)
    starts = [start for number, start in seen if number == 0]
    assert starts == sorted(starts, reverse=True)
    assert len(starts) > 2
    assert starts[-1] == 0
    assert seen.index((1, 0)) < seen.index((0, starts[0]))  # what lies behind comes first
    slope = (y.value > 0).astype(float)
    np.testing.assert_allclose(into[0], x.T @ slope, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(into[1], slope.sum(axis=0))
