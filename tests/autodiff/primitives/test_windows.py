"""Windows that slide: convolutions and pooling against plain loops, and the derivatives of both orders."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import dbp.autodiff as ad
from dbp.autodiff import Window, average_pool, convolve, convolve_transposed, convolve_weights, max_pool
from dbp.autodiff.primitives import tap_gather, tap_scatter, window_spread, window_sum
from tests.autodiff.derivatives import check_second_order, numbers

few = settings(max_examples=40, deadline=None, derandomize=True)
fewer = settings(max_examples=15, deadline=None, derandomize=True)
TYPES = [np.float32, np.float64]


def whole_numbers(seed, shape, dtype=np.float64):
    """Return small integers, whose sums of products are exact."""
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(dtype)


@st.composite
def windows(draw):
    """Draw a window along one, two or three axes, and an image that it fits."""
    axes = draw(st.sampled_from([2, 1, 3]))
    most = 2 if axes == 3 else 3

    def each(low, high, count=axes):
        return tuple(draw(st.integers(low, high)) for _ in range(count))

    window = Window(each(1, most), each(1, most), tuple(each(0, 2, 2) for _ in range(axes)), each(1, 2))
    least = [d * (k - 1) + 1 - sum(p) for d, k, p in zip(window.dilation, window.size, window.padding, strict=True)]
    return window, tuple(max(1, n) + draw(st.integers(0, 3)) for n in least)


@st.composite
def convolutions(draw):
    """Draw a window, the shapes of images, weights and outputs, and groups, depth-wise ones too."""
    window, image = draw(windows())
    groups, taken, made = (draw(st.integers(1, 3)) for _ in range(3))
    n = draw(st.integers(0, 2))
    outputs = (n, *positions(window, image), groups * made)
    return window, (n, *image, groups * taken), (*window.size, taken, groups * made), outputs, groups


def positions(window, image):
    """Count the steps of a window over an image."""
    settings_of_axes = zip(image, window.padding, window.dilation, window.size, window.stride, strict=True)
    return tuple(len(range(0, n + sum(p) - d * (k - 1), s)) for n, p, d, k, s in settings_of_axes)


def meetings(window, image):
    """Yield each position and tap, with the pixel of the image that they meet."""
    for position in np.ndindex(positions(window, image)):
        for tap in np.ndindex(window.size):
            axes = zip(position, window.stride, tap, window.dilation, window.padding, strict=True)
            place = tuple(p * s + i * d - before for p, s, i, d, (before, _) in axes)
            if all(0 <= at < length for at, length in zip(place, image, strict=True)):
                yield position, tap, place


def channel_pairs(weights, groups):
    """Yield (output channel, channel of the tap, input channel) for all pairs of one group."""
    *_, taken, made = weights
    for k in range(made):
        group = k // (made // groups)
        for c in range(taken):
            yield k, c, group * taken + c


def loop_over(window, image, weights, groups):
    for position, tap, place in meetings(window, image):
        for k, c, channel in channel_pairs(weights, groups):
            yield (slice(None), *position, k), (*tap, c, k), (slice(None), *place, channel)


# --- convolutions -----------------------------------------------------------------------------------


@few
@given(convolutions(), st.sampled_from(TYPES))
def test_convolutions_by_a_plain_loop(case, dtype):
    window, images, weights, outputs, groups = case
    x, w, g = (whole_numbers(i, shape, dtype) for i, shape in enumerate((images, weights, outputs)))
    y, back, correlated = np.zeros(outputs), np.zeros(images), np.zeros(weights)
    for output, tap, place in loop_over(window, images[1:-1], weights, groups):
        y[output] += x[place] * w[tap]
        back[place] += g[output] * w[tap]
        correlated[tap] += np.sum(x[place] * g[output])
    found = (
        convolve(x, w, window=window, groups=groups),
        convolve_transposed(g, w, image=images[1:-1], window=window, groups=groups),
        convolve_weights(x, g, window=window, groups=groups),
    )
    for got, expected in zip(found, (y, back, correlated), strict=True):
        np.testing.assert_array_equal(got, expected)
        assert got.dtype == dtype
        assert got.flags.c_contiguous


@few
@given(convolutions())
def test_the_three_convolutions_are_adjoint(case):
    window, images, weights, outputs, groups = case
    x, w, g = (whole_numbers(i, shape) for i, shape in enumerate((images, weights, outputs)))
    how = {"window": window, "groups": groups}
    product = np.sum(convolve(x, w, **how) * g)
    assert product == np.sum(x * convolve_transposed(g, w, image=images[1:-1], **how))
    assert product == np.sum(w * convolve_weights(x, g, **how))


def three(case):
    """Return the three convolutions of a case, each with a point."""
    window, images, weights, outputs, groups = case
    how = {"window": window, "groups": groups}
    x, w, g = (np.random.default_rng(i).standard_normal(s) * 0.3 for i, s in enumerate((images, weights, outputs)))
    return [
        (lambda x, w: convolve(x, w, **how), (x, w)),
        (lambda g, w: convolve_transposed(g, w, image=images[1:-1], **how), (g, w)),
        (lambda x, g: convolve_weights(x, g, **how), (x, g)),
    ]


@fewer
@given(convolutions())
def test_derivatives_of_convolutions(case):
    for function, points in three(case):
        ad.check_derivatives(function, *points)
        check_types(function, *points)


@fewer
@given(convolutions())
def test_second_derivatives_of_convolutions(case):
    for function, points in three(case):
        check_second_order(function, *points)


def check_types(function, *points):
    """Check that values and gradients have the type of the inputs."""
    for dtype in TYPES:
        leaves = [ad.Tensor(x.astype(dtype)) for x in points]
        output = function(*leaves)
        assert output.dtype == dtype
        assert function(*(leaf.value for leaf in leaves)).dtype == dtype
        for g in ad.pullback(output, np.ones(output.shape, dtype), leaves):
            assert g.dtype == dtype
        (tangent,) = ad.pushforward([output], [(leaf, np.ones_like(leaf.value)) for leaf in leaves])
        assert tangent.dtype == dtype


@few
@given(convolutions(), st.booleans(), st.booleans())
def test_the_block_is_a_convolution_with_bias_and_relu(case, bias, relu_after):
    """Values and gradients of the fused block equal those of its steps one by one."""
    window, images, weights, outputs, groups = case
    x, w, b = (numbers(shape, i) for i, shape in enumerate((images, weights, weights[-1:])))
    given_bias = b if bias else None

    def steps(x, w, b):
        y = convolve(x, w, window=window, groups=groups)
        y = y if b is None else y + b
        return ad.relu(y) if relu_after else y

    def block(x, w, b):
        return ad.convolution_block(x, w, b, window=window, groups=groups, relu_after=relu_after)

    g = np.random.default_rng(3).standard_normal(outputs)
    results = []
    for function in (steps, block):
        leaves = [None if v is None else ad.Tensor(v) for v in (x, w, given_bias)]
        output = function(*leaves)
        wanted = [leaf for leaf in leaves if leaf is not None]
        results.append([output.value, function(x, w, given_bias), *ad.pullback(output, g, wanted)])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-11 * max(1, np.abs(one).max(initial=0)))


# --- pooling ----------------------------------------------------------------------------------------


@st.composite
def pools(draw):
    """Draw a window whose every position meets the image, the image, and the shapes of images and outputs."""
    window, image = draw(windows())
    counts = inside(window, image)
    assume(counts.all())
    n, channels = draw(st.integers(0, 2)), draw(st.integers(1, 3))
    return window, (n, *image, channels), (n, *counts.shape, channels)


def inside(window, image):
    """Return for each position how many of its taps lie inside the image."""
    counts = np.zeros(positions(window, image))
    for position, _, _ in meetings(window, image):
        counts[position] += 1
    return counts


@few
@given(pools(), st.sampled_from(TYPES))
def test_pooling_by_a_plain_loop(case, dtype):
    window, images, outputs = case
    x, g = (whole_numbers(i, shape, dtype) for i, shape in enumerate((images, outputs)))
    largest, total, spread = np.full(outputs, -np.inf), np.zeros(outputs), np.zeros(images)
    for position, _, place in meetings(window, images[1:-1]):
        at, on = (slice(None), *position), (slice(None), *place)
        largest[at] = np.maximum(largest[at], x[on])
        total[at] += x[on]
        spread[on] += g[at]
    mean = (total / inside(window, images[1:-1])[..., None]).astype(dtype)
    summed = window_sum(x, window=window)
    back = window_spread(g, window=window, image=images[1:-1])
    np.testing.assert_array_equal(max_pool(x, window=window), largest)
    np.testing.assert_array_equal(summed, total)
    np.testing.assert_array_equal(back, spread)
    np.testing.assert_allclose(average_pool(x, window), mean, rtol=1e-6)
    assert np.sum(summed * g) == np.sum(x * back)
    assert {a.dtype for a in (max_pool(x, window=window), average_pool(x, window), summed, back)} == {np.dtype(dtype)}


@few
@given(pools(), st.sampled_from(TYPES))
def test_taps_by_a_plain_loop(case, dtype):
    window, images, outputs = case
    taps = np.random.default_rng(2).integers(0, np.prod(window.size), outputs)
    x, g = (whole_numbers(i, shape, dtype) for i, shape in enumerate((images, outputs)))
    gathered, scattered = np.zeros(outputs), np.zeros(images)
    for position, tap, place in meetings(window, images[1:-1]):
        at, on = (slice(None), *position), (slice(None), *place)
        chosen = taps[at] == np.ravel_multi_index(tap, window.size)
        gathered[at] += x[on] * chosen
        scattered[on] += g[at] * chosen
    got = tap_gather(x, taps=taps, window=window)
    back = tap_scatter(g, taps=taps, window=window, image=images[1:-1])
    np.testing.assert_array_equal(got, gathered)
    np.testing.assert_array_equal(back, scattered)
    assert got.dtype == back.dtype == dtype
    assert np.sum(got * g) == np.sum(x * back)


def pooling(case):
    """Return the pooling functions of a case, each with a point."""
    window, images, outputs = case
    image, x, g = images[1:-1], numbers(images), numbers(outputs, 1)
    taps = np.random.default_rng(2).integers(0, np.prod(window.size), outputs)
    return [
        (lambda x: max_pool(x, window=window), x),
        (lambda x: average_pool(x, window), x),
        (lambda x: window_sum(x, window=window), x),
        (lambda g: window_spread(g, window=window, image=image), g),
        (lambda x: tap_gather(x, taps=taps, window=window), x),
        (lambda g: tap_scatter(g, taps=taps, window=window, image=image), g),
    ]


@fewer
@given(pools())
def test_derivatives_of_pooling(case):
    for function, point in pooling(case):
        ad.check_derivatives(function, point)
        check_types(function, point)


@fewer
@given(pools())
def test_second_derivatives_of_pooling(case):
    for function, point in pooling(case):
        check_second_order(function, 0.2 * point)


def test_of_equal_values_the_first_counts():
    x = ad.Tensor(np.zeros((1, 4, 4, 1)))
    y = max_pool(x, window=Window((2, 2), (2, 2)))
    (g,) = ad.pullback(y, np.arange(1.0, 5).reshape(1, 2, 2, 1), [x])
    expected = np.zeros((4, 4))
    expected[::2, ::2] = [[1, 2], [3, 4]]
    np.testing.assert_array_equal(g[0, :, :, 0], expected)


def test_negative_inputs_beat_the_padding():
    x = np.full((1, 2, 2, 1), -5.0)
    window = Window((2, 2), (1, 1), ((1, 1), (1, 1)))
    np.testing.assert_array_equal(max_pool(x, window=window), np.full((1, 3, 3, 1), -5.0))
    np.testing.assert_array_equal(average_pool(x, window), np.full((1, 3, 3, 1), -5.0))


# --- mistakes ---------------------------------------------------------------------------------------

X = np.zeros((2, 5, 4, 4))
W = np.zeros((3, 3, 4, 6))
LARGE = Window((7, 7))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: convolve(ad.Tensor(X[..., :3]), W, window=Window((3, 3))),
            r"convolve of shapes \(2, 5, 4, 3\) and \(3, 3, 4, 6\): weights for 4 channels do not fit 3 channels",
        ),
        (
            lambda: convolve(X, W, window=Window((3, 3)), groups=2),
            r"weights for 8 channels in 2 groups do not fit 4 channels",
        ),
        (
            lambda: convolve(X, np.zeros((3, 3, 2, 5)), window=Window((3, 3)), groups=2),
            r"convolve of shapes \(2, 5, 4, 4\) and \(3, 3, 2, 5\): ",
        ),
        (
            lambda: convolve(X, np.zeros((2, 3, 4, 6)), window=Window((3, 3))),
            r"convolve of shapes .*: weights of shape \(2, 3, 4, 6\) do not fit a window of \(3, 3\)$",
        ),
        (
            lambda: convolve_transposed(
                np.zeros((2, 3, 2, 6)), np.zeros((5, 5, 4, 6)), image=(5, 4), window=Window((3, 3))
            ),
            r"convolve_transposed of shapes .*: weights of shape \(5, 5, 4, 6\) do not fit a window of \(3, 3\)$",
        ),
        (
            lambda: ad.convolution_block(X, np.zeros((5, 5, 4, 6)), None, window=Window((3, 3))),
            r"convolution_block of .*: weights of shape \(5, 5, 4, 6\) do not fit a window of \(3, 3\)$",
        ),
        (
            lambda: convolve(X, np.zeros((7, 7, 4, 6)), window=LARGE),
            r"convolve of shapes .*: a window of \(7, 7\) \(dilation \(1, 1\)\) does not fit \(5, 4\)$",
        ),
        (
            lambda: convolve(X, np.zeros((3, 3, 4, 6)), window=Window((3, 3), (1, 1), ((0, 0), (1, 0)), (3, 3))),
            r"a window of \(3, 3\) \(dilation \(3, 3\)\) does not fit \(5, 4\) padded by \(\(0, 0\), \(1, 0\)\)",
        ),
        (
            lambda: convolve_transposed(np.zeros((2, 3, 2, 6)), W, image=(6, 4), window=Window((3, 3))),
            r"convolve_transposed of shapes \(2, 3, 2, 6\) and \(3, 3, 4, 6\): "
            r"the window has \(4, 2\) positions on images of \(6, 4\)",
        ),
        (
            lambda: convolve_transposed(np.zeros((2, 3, 2, 5)), W, image=(5, 4), window=Window((3, 3))),
            r"convolve_transposed of .*: weights for 4 channels to 6 do not fit 4 and 5 channels",
        ),
        (
            lambda: convolve_weights(X, np.zeros((2, 3, 3, 6)), window=Window((3, 3))),
            r"convolve_weights of shapes \(2, 5, 4, 4\) and \(2, 3, 3, 6\): the window has \(3, 2\) positions",
        ),
        (
            lambda: convolve_weights(X, np.zeros((2, 3, 2, 5)), window=Window((3, 3)), groups=2),
            r"convolve_weights of shapes .*\(2 groups\)",
        ),
        (lambda: max_pool(ad.Tensor(X), window=LARGE), r"max_pool of shapes \(2, 5, 4, 4\): a window of \(7, 7\)"),
        (lambda: window_sum(X, window=LARGE), r"window_sum of shapes \(2, 5, 4, 4\): a window of \(7, 7\)"),
        (lambda: average_pool(X, LARGE), r"window_sum of shapes \(2, 5, 4, 4\): a window of \(7, 7\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(call, message):
    with pytest.raises(ad.ShapeError, match=message):
        call()


@pytest.mark.parametrize("wrong", [{"size": (0, 3)}, {"stride": (1, 0)}, {"dilation": (-1, 1)}], ids=str)
def test_a_window_that_cannot_slide_is_refused(wrong):
    (name,) = wrong
    with pytest.raises(ad.ShapeError, match=f"^{name} of a window must be at least 1"):
        Window(**({"size": (3, 3)} | wrong))


def test_whole_numbers_are_pooled_with_padding_without_a_warning():
    x = -np.arange(1, 10).reshape(1, 3, 3, 1)
    y = max_pool(x, window=Window((2, 2), (2, 2), ((1, 0), (1, 0))))
    np.testing.assert_array_equal(y[0, :, :, 0], [[-1, -2], [-4, -5]])
    assert y.dtype == x.dtype
