"""Every primitive's derivatives: reverse and forward against differences, and second derivatives."""

import inspect

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp.autodiff import primitives as p
from dbp.autodiff.primitives.error_function import erfc
from dbp.autodiff.primitives.interpolation import interpolate, interpolate_transposed

RNG = np.random.default_rng(1)
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
MATRIX = X @ X.T + np.eye(3)
TAPS = RNG.integers(0, 4, POOLED.shape)
CASES = {
    "identity": (p.identity, [X]),
    "reshape": (lambda x: p.reshape(x, shape=(2, 6)), [X]),
    "transpose": (lambda x: p.transpose(x, axes=(2, 0, 1)), [CUBE]),
    "broadcast_to": (lambda x: p.broadcast_to(x, shape=(5, 3, 4)), [X]),
    "allreduce": (lambda x: p.allreduce(x, total=lambda array: 3 * array), [X]),
    "sum": (lambda x: p.sum_(x, axis=0), [X]),
    "concatenate": (lambda *xs: p.concatenate(*xs, axis=-1), [X, X[:, :1], X[:, :2]]),
    "pad": (lambda x: p.pad(x, width=((1, 0), (2, 3))), [X]),
    "take": (lambda x: p.take(x, index=(ROWS, slice(1, 3))), [X]),
    "scatter_add": (lambda x: p.scatter_add(x, index=(ROWS, slice(1, 3)), shape=(4, 5)), [X[:, :2]]),
    "add": (p.add, [X, X[:1]]),
    "subtract": (p.subtract, [X[:, :1], X[0]]),
    "multiply": (p.multiply, [X, X[:, :1]]),
    "divide": (p.divide, [X[0], POSITIVE]),
    "negative": (p.negative, [X]),
    "power": (p.power, [POSITIVE, X[0]]),
    "matmul": (p.matmul, [CUBE, X.T.copy()]),
    "einsum": (lambda *xs: p.einsum(*xs, rule="bij,jk,kl->bl"), [CUBE, X.T.copy(), X]),
    "rfft": (lambda x: p.rfft(x, axes=(2, 0)), [CUBE]),
    "irfft": (lambda y: p.irfft(y, 4, axes=(0, 1)), [CUBE.reshape(2, 3, 2, 2)]),
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
    "tan": (p.tan, [X / 2]),
    "arcsin": (p.arcsin, [X / 4]),
    "arcsinh": (p.arcsinh, [X]),
    "arccosh": (p.arccosh, [X * X + 2]),
    "arctanh": (p.arctanh, [X / 4]),
    "arccos": (p.arccos, [X / 4]),
    "arctan": (p.arctan, [X]),
    "arctan2": (p.arctan2, [X, X[:1] * 2]),
    "sinh": (p.sinh, [X]),
    "cosh": (p.cosh, [X]),
    "tanh": (p.tanh, [X]),
    "slope_of_tanh": (ad.PRIMITIVES["slope_of_tanh"], [X]),
    "sigmoid": (p.sigmoid, [X]),
    "softplus": (p.softplus, [X]),
    "relu": (p.relu, [X]),
    "gate": (lambda g: p.gate(g, X), [X + 1]),
    "convolve": (lambda x, w: p.convolve(x, w, **HOW), [IMAGES, KERNEL]),
    "convolve_transposed": (lambda g, w: p.convolve_transposed(g, w, image=(5, 4), **HOW), [OUTPUTS, KERNEL]),
    "convolve_weights": (lambda x, g: p.convolve_weights(x, g, **HOW), [IMAGES, OUTPUTS]),
    "max_pool": (lambda x: p.max_pool(x, window=POOL), [IMAGES]),
    "tap_gather": (lambda x: p.tap_gather(x, taps=TAPS, window=POOL), [IMAGES]),
    "tap_scatter": (lambda g: p.tap_scatter(g, taps=TAPS, window=POOL, image=(5, 4)), [POOLED]),
    "window_sum": (lambda x: p.window_sum(x, window=POOL), [IMAGES]),
    "interpolate": (lambda x: interpolate(x, axis=1, factor=3), [CUBE]),
    "interpolate_transposed": (lambda g: interpolate_transposed(g, axis=2, factor=2), [CUBE]),
    "window_spread": (lambda g: p.window_spread(g, window=POOL, image=(5, 4)), [POOLED]),
    "elu": (p.elu, [X]),
    "dense_block": (lambda x, w, b: ad.dense_block(x, w, b, activation="relu"), [CUBE, X.T.copy(), X[0, :3]]),
    "convolution_block": (
        lambda x, w, b: ad.convolution_block(x, w, b, window=WINDOW, relu_after=True, pool=(2, 2)),
        [IMAGES[..., :2], KERNEL, X[0, :1].repeat(6)],
    ),
    "transposed_convolution_block": (
        lambda x, w, b: ad.transposed_convolution_block(x, w, b, image=(5, 4), **HOW),
        [OUTPUTS, KERNEL, X[0, :1].repeat(4)],
    ),
    "gelu_block": (ad.gelu_block, [X]),
    "gelu_exact_block": (ad.gelu_exact_block, [X]),
    "silu_block": (ad.silu_block, [X]),
    "attention_block": (lambda q, k, v: ad.attention_block(q, k, v, heads=2, causal=True), [CUBE, CUBE / 2, CUBE + 1]),
    "self_attention_block": (lambda x: ad.self_attention_block(x, heads=1), [np.concatenate([CUBE] * 3, axis=2)]),
    "layer_normalize_block": (
        lambda x, scale, shift: ad.layer_normalize_block(x, scale, shift, epsilon=0.1),
        [CUBE, X[0], X[1]],
    ),
    "rms_normalize_block": (lambda x, scale: ad.rms_normalize_block(x, scale, epsilon=0.1), [CUBE, X[0]]),
    "normalize_block": (
        lambda x, scale, shift: ad.normalize_block(x, scale, shift, axes=(0, 2), epsilon=0.1),
        [CUBE, X + 0.3, X[:, :1]],
    ),
    "batch_normalize_block": (
        lambda x, scale, shift: ad.batch_normalize_block(
            x, scale, shift, moments=ad.channel_moments(ad.array_of(x)), epsilon=0.1
        ),
        [CUBE, X[0], X[1]],
    ),
    "add_relu_block": (ad.add_relu_block, [CUBE, CUBE[::-1] ** 2]),
    "gru_block": (ad.gru_block, [CUBE, X.T.copy(), X[0, :3], X[:1, :3], X[0, :1]]),
    "lstm_block": (ad.lstm_block, [CUBE, X.T @ X, X[0], X[:1]]),
    "squared_error_block": (lambda x, y: ad.squared_error_block(x, y, axes=1), [CUBE, np.cos(CUBE)]),
    "cross_entropy_block": (lambda z: ad.cross_entropy_block(z, targets=INDEX), [X]),
    "min": (lambda x: p.min_(x, axis=1), [X]),
    "cumsum": (lambda x: p.cumsum(x, axis=0), [X]),
    "solve": (p.solve, [np.stack([MATRIX, MATRIX + 1]), CUBE[0]]),
    "inv": (p.inv, [MATRIX]),
    "det": (p.det, [np.stack([MATRIX, MATRIX + 1])]),
    "cholesky": (lambda x: p.cholesky(x @ np.swapaxes(x, -1, -2)), [CUBE]),
    "max": (lambda x: p.max_(x, axis=1), [X]),
    "logsumexp": (lambda x: p.logsumexp(x, axis=0), [X]),
    "erf": (p.erf, [X]),
    "erfc": (erfc, [X]),
    "log_softmax": (p.log_softmax, [X]),
    "softmax": (p.softmax, [X]),
    "pick": (lambda x: p.pick(x, index=INDEX), [X]),
    "scatter_rows": (lambda x: p.scatter_rows(x, index=INDEX, width=5), [X[:, 0]]),
}


COMPOSED = {  # functions that consist of primitives
    "prod": (lambda x: p.prod(x, axis=(0, 2)), [CUBE]),
    "std": (lambda x: p.std(x, axis=0), [X]),
    "norm": (lambda x: p.norm(x, axis=1, keepdims=True), [X]),
    "sort": (lambda x: p.sort(x, axis=0), [X]),
    "top_k": (lambda x: p.top_k(x, 2), [X]),
    "take_along_axis": (lambda x: p.take_along_axis(x, INDEX[:, None] % 4), [X]),
    "diag": (lambda x: p.diag(x[0], -1) @ p.diag(x, 1)[:1].repeat(5), [X]),
    "tril": (lambda x: p.tril(x, -1), [CUBE]),
    "triu": (lambda x: p.triu(x, 1), [CUBE]),
    "roll": (lambda x: p.roll(p.roll(x, (1, -2), (0, 1)), 3), [X]),
    "flip": (lambda x: p.flip(x, axis=(0, 1)), [CUBE]),
    "repeat": (lambda x: p.repeat(x, [2, 0, 1], axis=0), [X]),
    "outer": (p.outer, [X, X[0]]),
    "kron": (p.kron, [X, CUBE]),
    "tensordot": (lambda a, b: p.tensordot(a, b, ([1], [-1])), [X, CUBE]),
}
CASES |= COMPOSED


def test_every_primitive_has_a_case():
    assert set(CASES) - set(COMPOSED) == set(ad.PRIMITIVES)


@pytest.mark.parametrize("name", CASES)
def test_first_derivatives(name):
    function, points = CASES[name]
    ad.check_derivatives(function, *points)


@pytest.mark.parametrize("name", CASES)
def test_second_derivatives(name):
    """Both modes check the recorded gradient of a smooth scalar of the primitive."""
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


def test_the_check_notices_a_wrong_rule():
    wrong = lambda x: ad.Tensor(x.value**2, p.tanh, (x,)) if isinstance(x, ad.Tensor) else x**2  # noqa: E731
    with pytest.raises(AssertionError, match="forward derivative"):
        ad.check_derivatives(wrong, X)


def test_entries_are_short():
    blocks = {name for name, primitive in ad.PRIMITIVES.items() if name.endswith("_block")}
    for primitive in (ad.PRIMITIVES[name] for name in ad.PRIMITIVES.keys() - blocks):
        for rules in (primitive.reverse, primitive.forward):
            for rule in [rules] if callable(rules) else rules:
                assert rule is None or len(inspect.getsource(rule).splitlines()) <= 8
