"""Convolutions in groups, depth-wise and of sequences: value and gradients are those of the specification."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dbp.autodiff as ad
from dbp.autodiff import fast_convolution, scratch
from dbp.autodiff.fast_convolution import depthwise, filtering, grouped, sequences
from dbp.autodiff.tensor import PRIMITIVES

BLOCK = PRIMITIVES["convolution_block"]
SMALL = {  # so that a few numbers are several rounds, bands, groups and pieces
    depthwise: ("ROW", "ROUND_BYTES", "GROUP_BYTES"),
    sequences: ("GROUP_BYTES", "PIECE_BYTES"),
    grouped: ("MIN_CHANNELS",),
}


@st.composite
def windows(draw, axes, height_one):
    """Return a window, and lengths of images that it fits, of height 1 if they are sequences."""
    pick = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(axes))  # noqa: E731
    size, stride, dilation = pick(1, 4), pick(1, 3), pick(1, 3)
    padding = tuple(zip(pick(0, 5), pick(0, 5), strict=True))
    if height_one:
        size, padding = (1, size[1]), ((0, 0), padding[1])
    least = [max(1, d * (k - 1) + 1 - sum(p)) for k, d, p in zip(size, dilation, padding, strict=True)]
    lengths = tuple(n + extra for n, extra in zip(least, pick(0, 6), strict=True))
    return ad.Window(size, stride, padding, dilation), ((1, lengths[1]) if height_one else lengths)


@st.composite
def convolutions(draw, height_one=False):
    """Return images, weights and bias of whole numbers, and the options of the block."""
    height_one, axes = height_one or draw(st.booleans()), draw(st.sampled_from([2, 2, 3]))
    window, lengths = draw(windows(2 if height_one else axes, height_one))
    groups = draw(st.sampled_from([1, 2, 3, 5]))
    inputs, outputs = draw(st.sampled_from([1, 1, 2, 3])), draw(st.integers(1, 3))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    whole = lambda *shape: random.integers(-3, 4, shape).astype(dtype)  # noqa: E731
    x = whole(draw(st.integers(0, 3)), *lengths, groups * inputs)
    w = whole(*window.size, inputs, groups * outputs)
    b = whole(groups * outputs) if draw(st.booleans()) else None
    pool = ()
    if len(lengths) == 2 and draw(st.booleans()):
        pool = (1, 2) if height_one else (2, 2)
        pool = () if any(p > n for p, n in zip(pool, window.positions(lengths), strict=True)) else pool
    return x, w, b, {"window": window, "groups": groups, "relu_after": draw(st.booleans()), "pool": pool}


def gradients(function, inputs, by, options):
    """Return the value, and the gradients by some inputs for a cotangent of whole numbers."""

    def scalar(*chosen):
        given = list(inputs)
        for i, value in zip(by, chosen, strict=True):
            given[i] = value
        y = function(*given, **options)
        return ad.sum_(y * (np.arange(np.size(y)).reshape(np.shape(y)) % 7 - 3).astype(y.dtype))

    return function(*inputs, **options), *ad.gradient(scalar, tuple(range(len(by))))(*(inputs[i] for i in by))


@pytest.mark.parametrize(("lengths", "pool"), [((9, 8), 2), ((9, 8), 3), ((1, 9), 2)])
@pytest.mark.parametrize("groups", [1, 2])
def test_without_a_backward_pass_the_value_is_the_same_and_no_positions_are_saved(lengths, pool, groups):
    random = np.random.default_rng(0)
    x, w = random.standard_normal((3, *lengths, 4)), random.standard_normal((min(3, lengths[0]), 3, 4 // groups, 6))
    x[0, 0, 3, 1] = np.nan
    options = {"stride": (1, 1), "padding": ((0, 0), (1, 1)), "dilation": (1, 1), "groups": groups}
    y, kept = fast_convolution.forward(x, w, np.ones(6), **options, relu=True, pool=pool)
    alone, nothing = fast_convolution.forward(x, w, np.ones(6), **options, relu=True, pool=pool, keep=False)
    np.testing.assert_array_equal(alone, y)
    assert np.isnan(y).any()
    saved, unsaved = (found if groups == 1 else [a for one in found for a in one] for found in (kept, nothing))
    assert (sum(array.size for array in saved), len(unsaved)) == (y.size, 0)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(convolutions(), st.sets(st.sampled_from([0, 1, 2]), min_size=1), st.sampled_from([None, 1, 20, 400]))
def test_any_convolution(case, by, small):
    """Compare sums of whole numbers, which are exact in any order."""
    *inputs, options = case
    chosen = sorted(i for i in by if inputs[i] is not None) or [0]
    with pytest.MonkeyPatch.context() as patch:
        for module, names in SMALL.items():
            for name in names if small is not None else ():
                patch.setattr(module, name, small)
        found = gradients(ad.convolution_block, inputs, chosen, options)
    for one, other in zip(found, gradients(BLOCK._function, inputs, chosen, options), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype == inputs[0].dtype


@settings(max_examples=100, derandomize=True, deadline=None)
@given(convolutions(height_one=True), st.sampled_from([1, 400, 1 << 20]))
def test_minimal_filtering_of_sequences(case, small):
    *inputs, options = case
    inputs = [None if array is None else array.astype(np.float32) for array in inputs]
    options |= {"relu_after": False, "pool": ()}  # else rounding would decide where gradients go
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("MIN_TERMS", 1), ("MIN_OUTPUTS", 1), ("MAX_PRODUCTS", 9)):
            patch.setattr(filtering, name, value)
        patch.setattr(sequences, "GROUP_BYTES", small)
        found = gradients(ad.convolution_block, inputs, [0, 1], options)
    for one, other in zip(found, gradients(BLOCK._function, inputs, [0, 1], options), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max(initial=1))


@pytest.mark.parametrize(
    ("lengths", "size", "groups", "inputs", "outputs"),
    [
        ((9, 12), (3, 3), 40, 1, 40),
        ((1, 50), (1, 5), 1, 6, 8),
        ((1, 150), (1, 9), 1, 24, 20),
        ((20, 18), (3, 3), 4, 16, 64),
        ((3, 4, 5), (2, 2, 3), 9, 1, 18),
    ],
    ids=["depth-wise", "sequences", "minimal filtering", "grouped", "depth-wise in volumes"],
)
def test_the_error_is_that_of_float32(lengths, size, groups, inputs, outputs):
    random = np.random.default_rng(5)
    x, w = random.standard_normal((2, *lengths, groups * inputs)), random.standard_normal((*size, inputs, outputs))
    options = {"window": ad.Window(size), "groups": groups, "relu_after": False, "pool": ()}
    exact = gradients(BLOCK._function, [x, w, None], [0, 1], options)
    single = [x.astype(np.float32), w.astype(np.float32), None]
    for one, other in zip(gradients(ad.convolution_block, single, [0, 1], options), exact, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())


def test_pooling_along_one_axis_is_that_of_images_of_height_one():
    random = np.random.default_rng(2)
    x, w, b = random.standard_normal((2, 9, 3)), random.standard_normal((3, 3, 4)), random.standard_normal(4)
    y = ad.convolution_block(x, w, b, ad.Window((3,)), relu_after=True, pool=(2,))
    images = ad.convolution_block(x[:, None], w[None], b, ad.Window((1, 3)), relu_after=True, pool=(1, 2))
    assert y.shape == (2, 3, 4)
    np.testing.assert_allclose(y, images[:, 0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("groups", "inputs"), [(12, 1), (3, 4), (1, 12)])
@pytest.mark.parametrize("height", [1, 6])
def test_results_do_not_depend_on_other_calls_or_on_memory(groups, inputs, height):
    """Repeat a call after one of another size, and with views that are not contiguous."""
    random = np.random.default_rng(6)
    size = (min(height, 3), 3)
    x, w = random.standard_normal((3, height, 9, 12)), random.standard_normal((*size, inputs, 12))
    options = {"window": ad.Window(size, padding=((0, 0), (1, 1))), "groups": groups, "relu_after": True}
    first = gradients(ad.convolution_block, [x, w, w[0, 0, 0]], [0, 1, 2], options)
    kept = [array.copy() for array in first]
    gradients(ad.convolution_block, [np.full((5, 7 * height, 14, 12), np.nan), w, None], [0], options)
    views = [np.repeat(array, 2, axis=-1)[..., ::2] for array in (x, w)]
    for array, copy, again in zip(
        first, kept, gradients(ad.convolution_block, [*views, w[0, 0, 0]], [0, 1, 2], options), strict=True
    ):
        np.testing.assert_array_equal(array, copy)
        np.testing.assert_array_equal(array, again)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("images", [1 / 3, 1, 3, 7], ids=["bands of an image", "one", "three", "all seven"])
def test_padding_is_zero_in_every_round(monkeypatch, images, stride):
    random = np.random.default_rng(0)
    x, w = (random.integers(-3, 4, shape).astype(np.float32) for shape in ((7, 6, 5, 4), (3, 3, 1, 4)))
    options = {"window": ad.Window((3, 3), (stride, stride), ((1, 1), (1, 1))), "groups": 4}
    options |= {"relu_after": False, "pool": ()}
    expected = gradients(BLOCK._function, [x, w, None], [0, 1], options)
    padded = 8 * 7 * 4 * 4  # bytes of an image with its padding
    monkeypatch.setattr(depthwise, "ROUND_BYTES", int(images * padded))
    scratch.buffer("tapped", (1 << 16,), np.float32).fill(np.nan)
    for found, other in zip(gradients(ad.convolution_block, [x, w, None], [0, 1], options), expected, strict=True):
        np.testing.assert_array_equal(found, other)
