"""The fast convolutions against a plain float64 loop over the kernel's taps, over shapes, settings and paths."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dbp import blas
from dbp.autodiff import fast_convolution, scratch
from dbp.autodiff.fast_convolution import columns, volumes, winograd, winograd_tiles

RANDOM = np.random.default_rng(7)
PLAIN = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "relu": False, "pool": 0}
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}


def taps(x, w, stride, padding, dilation):
    """Yield each tap's weights (C, K) with the view of the padded pixels (N, H, W, C) that it meets."""
    padded = np.pad(x, ((0, 0), *padding, (0, 0)))
    sizes = [
        (size - step * (reach - 1) - 1) // move + 1
        for size, step, reach, move in zip(padded.shape[1:3], dilation, w.shape, stride, strict=False)
    ]
    spans = [move * (size - 1) + 1 for move, size in zip(stride, sizes, strict=True)]
    for i, j in np.ndindex(*w.shape[:2]):
        rows = slice(i * dilation[0], i * dilation[0] + spans[0], stride[0])
        wide = slice(j * dilation[1], j * dilation[1] + spans[1], stride[1])
        yield (i, j), padded, (slice(None), rows, wide)


def places(y, size):
    """Return the views of `y` with the first, second, ... element of every pooling window."""
    high, wide = (length // size * size for length in y.shape[1:3])
    return [y[:, i:high:size, j:wide:size] for i in range(size) for j in range(size)]


def reference(x, w, b, g=None, *, stride, padding, dilation, relu, pool):
    """Return the value in float64, or with a cotangent `g` the cotangents of x, w and b."""
    x, w = x.astype(np.float64), w.astype(np.float64)
    z = sum(padded[index] @ w[tap] for tap, padded, index in taps(x, w, stride, padding, dilation))
    y = z + (0 if b is None else b.astype(np.float64))
    y = np.maximum(y, 0) if relu else y
    size = max(pool, 1)
    cells = np.stack(places(y, size))
    if g is None:
        return cells.max(0)
    whole = np.zeros(y.shape)
    for number, place in enumerate(places(whole, size)):
        place[...] = g * (cells.argmax(0) == number)
    whole = whole * (y > 0) if relu else whole
    dw, spread = np.zeros(w.shape), np.zeros(np.pad(x, ((0, 0), *padding, (0, 0))).shape)
    for tap, padded, index in taps(x, w, stride, padding, dilation):
        dw[tap] = np.tensordot(padded[index], whole, ([0, 1, 2], [0, 1, 2]))
        spread[index] += whole @ w[tap].T
    dx = spread[:, padding[0][0] : padding[0][0] + x.shape[1], padding[1][0] : padding[1][0] + x.shape[2]]
    return dx, dw, whole.sum((0, 1, 2))


def whole_numbers(random, shape, dtype):
    """Return small integers, whose sums are exact, so that ties are the same in kernel and reference."""
    return random.integers(-3, 4, shape).astype(dtype)


def untied(shape, scale=1.0, random=RANDOM):
    return (random.standard_normal(shape) * scale).astype(np.float32)


def close(got, want, dtype):
    assert got.shape == want.shape
    assert got.dtype == dtype
    scale = max(1.0, float(np.abs(want).max(initial=0)))
    assert np.abs(got - want).max(initial=0) <= TOLERANCE[dtype] * scale


@pytest.mark.parametrize("volumes_at_once", [0, 0.5, 1, 2, 100])
def test_volumes_folded_in_groups_give_the_same(volumes_at_once, monkeypatch):
    """Fold planes that lie in the padding alone too, and taps with none of the volume left under them."""
    x, w, b = untied((3, 4, 3, 5, 2)), untied((3, 2, 2, 2, 4)), untied(4)
    setting = {"stride": (2, 1, 1), "padding": ((4, 1), (1, 0), (0, 0)), "dilation": (3, 1, 2), "relu": True, "pool": 0}
    y, saved = fast_convolution.forward(x, w, b, **setting)
    g = untied(y.shape)
    gradients = fast_convolution.backward(g, y, saved, x, w, **setting, wanted=True, bias=True)
    monkeypatch.setattr(volumes, "FOLDED_BYTES", int(volumes_at_once * y.shape[1] * 3 * x[0, 0].nbytes))
    again, saved = fast_convolution.forward(x, w, b, **setting)
    close(again, y, np.float32)
    for got, want in zip(
        fast_convolution.backward(g, y, saved, x, w, **setting, wanted=True, bias=True), gradients, strict=True
    ):
        close(got, want, np.float32)
    assert fast_convolution.forward(x[:0], w, b, **setting)[0].shape == (0, *y.shape[1:])


def check(x, w, b, wanted=True, **setting):
    """Check that forward and backward equal the reference and do not change their arguments."""
    for array in (x, w):
        array.flags.writeable = False
    setting = PLAIN | setting
    dtype = x.dtype.type
    y, saved = fast_convolution.forward(x, w, b, **setting)
    close(y, reference(x, w, b, **setting), dtype)
    g = whole_numbers(RANDOM, y.shape, dtype)
    dx, dw, db = fast_convolution.backward(g, y, saved, x, w, **setting, wanted=wanted, bias=b is not None)
    want = reference(x, w, b, g, **setting)
    close(dw, want[1], dtype)
    assert (db is None) == (b is None)
    assert (dx is None) == (not wanted)
    if b is not None:
        close(db, want[2], dtype)
    if wanted:
        close(dx, want[0], dtype)


def uses_winograd(x, w, **setting):
    setting = PLAIN | setting
    return fast_convolution._by_winograd(x, w, *(setting[name] for name in ("stride", "padding", "dilation", "pool")))


@settings(max_examples=150, derandomize=True)
@given(st.data())
def test_any_convolution(data):
    draw = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    kernel = draw(1, 5), draw(1, 4)
    stride, dilation = (draw(1, 3), draw(1, 3)), (draw(1, 2), draw(1, 2))
    padding = ((draw(0, 2), draw(0, 2)), (draw(0, 2), draw(0, 2)))
    high, wide = (
        max(1, step * (size - 1) + 1 - sum(pad)) + draw(0, 7)
        for step, size, pad in zip(dilation, kernel, padding, strict=True)
    )
    dtype, random = data.draw(st.sampled_from([np.float32, np.float64])), np.random.default_rng(draw(0, 99))
    x = whole_numbers(random, (draw(0, 3), high, wide, draw(1, 10)), dtype)
    w = whole_numbers(random, (*kernel, x.shape[3], draw(1, 9)), dtype)
    b = whole_numbers(random, w.shape[3], dtype) if data.draw(st.booleans()) else None
    setting = {"stride": stride, "padding": padding, "dilation": dilation, "relu": data.draw(st.booleans())}
    check(x, w, b, **setting, pool=data.draw(st.sampled_from([0, 2, 3])), wanted=data.draw(st.booleans()))


def decided(x, w, b, padding):
    """Return True if no output is so near to zero or to its neighbors that rounding decides where its gradient goes."""
    y = reference(x, w, b, **(PLAIN | {"padding": padding}))
    first, second = np.sort(np.stack(places(y, 2)), axis=0)[:-3:-1]
    return min(np.abs(y).min(initial=1), (first - second).min(initial=1)) > TOLERANCE[np.float32] * 2


@settings(max_examples=100, derandomize=True)
@given(st.data())
def test_winograd(data):
    draw = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    padding = ((draw(0, 2), draw(0, 2)), (draw(0, 2), draw(0, 2)))
    random = np.random.default_rng(draw(0, 99))
    x = untied((draw(0, 3), draw(3, 15), draw(3, 15), draw(8, 20)), random=random)
    w = untied((3, 3, x.shape[3], draw(1, 20)), 0.1, random)
    b = untied(w.shape[3], random=random) if data.draw(st.booleans()) else None
    assume(decided(x, w, b, padding))
    tiles = data.draw(st.sampled_from([1, 4, 20, winograd_tiles.MOST_TILES]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_convolution, "MIN_TILES", 1)
        patch.setattr(fast_convolution, "MIN_CHANNELS", 1)
        assume(uses_winograd(x, w, padding=padding))
        # rounds of one band of an image up to all images
        patch.setattr(winograd_tiles, "ROUND", tiles * sum(w.shape[2:]))
        patch.setattr(winograd_tiles, "MOST_TILES", tiles)
        setting = {"relu": data.draw(st.booleans()), "pool": data.draw(st.sampled_from([0, 2]))}
        check(x, w, b, padding=padding, **setting, wanted=data.draw(st.booleans()))


@pytest.mark.parametrize("channels", [3, 12])
@pytest.mark.parametrize("pool", [0, 2])
def test_bands_of_an_image(monkeypatch, channels, pool):
    monkeypatch.setattr(columns, "ROUND_BYTES", 0)
    monkeypatch.setattr(columns, "MIN_PIXELS", 20)
    x, w = (whole_numbers(RANDOM, shape, np.float32) for shape in ((2, 13, 9, channels), (3, 3, channels, 5)))
    check(x, w, None, padding=((1, 1), (1, 0)), pool=pool, relu=True)


@pytest.mark.parametrize(("channels", "outputs"), [(24, 72), (5, 6), (40, 700)])
@pytest.mark.parametrize("kernels", ["SkylakeX", "Haswell"])
def test_products_of_one_thread_are_cut_as_its_kernels_need_it(monkeypatch, kernels, channels, outputs):
    monkeypatch.setattr(blas, "_kernel", lambda: kernels)
    shapes = (9, 15, 16, channels), (3, 3, channels, outputs)
    x, w = (whole_numbers(RANDOM, shape, np.float32) for shape in shapes)
    with blas.blas_threads(1):
        assert blas.prefers_small_products() == (kernels == "SkylakeX")
        check(x, w, None, stride=(2, 2), padding=((1, 1), (1, 1)), relu=True)


@pytest.mark.parametrize("channels", [1, 3, 12])
def test_a_kernel_as_large_as_the_image(channels):
    x, w = (whole_numbers(RANDOM, shape, np.float32) for shape in ((4, 5, 3, channels), (5, 3, channels, 6)))
    check(x, w, np.ones(6, np.float32))


def test_a_pool_too_large_for_a_byte():
    with pytest.raises(ValueError, match="pool must be at most 15, got 16"):
        fast_convolution.forward(np.ones((1, 32, 32, 1)), np.ones((1, 1, 1, 1)), None, **(PLAIN | {"pool": 16}))


@pytest.mark.parametrize(("kernel", "channels"), [(1, 4), (1, 12), (3, 1), (3, 3), (3, 16), (5, 9)])
def test_inputs_that_are_views(kernel, channels):
    x = untied((channels, 3, 9, 22)).transpose(1, 2, 3, 0)[:, :, ::2]
    w = untied((16, kernel, kernel, channels), 0.2).transpose(1, 2, 3, 0)
    g_of = untied((3, 16, 9, 11))
    side = kernel // 2
    setting = PLAIN | {"padding": ((side, side), (side, side)), "relu": True}
    y, saved = fast_convolution.forward(x, w, untied(16), **setting)
    g = g_of.transpose(0, 2, 3, 1)
    copies = [np.ascontiguousarray(array) for array in (g, x, w)]
    got = fast_convolution.backward(g, y, saved, x, w, **setting, wanted=True, bias=True)
    again = fast_convolution.backward(copies[0], y, saved, *copies[1:], **setting, wanted=True, bias=True)
    for one, other in zip(got, again, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [2, 8, 16])
def test_results_do_not_depend_on_other_calls(channels):
    setting = PLAIN | {"padding": ((1, 1), (1, 1)), "relu": True, "pool": 2}
    x, w, b = untied((3, 9, 10, channels)), untied((3, 3, channels, 16), 0.2), untied(16)

    def both(x, w):
        y, saved = fast_convolution.forward(x, w, b, **setting)
        return [
            y,
            *saved,
            *fast_convolution.backward(np.ones_like(y), y, saved, x, w, **setting, wanted=True, bias=True),
        ]

    first = both(x, w)
    kept = [array.copy() for array in first]
    both(np.full((5, 14, 14, channels), np.nan, np.float32), w)
    again = both(x, w)
    for array, copy, repeated in zip(first, kept, again, strict=True):
        np.testing.assert_array_equal(array, copy)
        np.testing.assert_array_equal(array, repeated)
        assert not any(np.shares_memory(array, memory) for memory in scratch._kept.__dict__.values())


@pytest.mark.parametrize("channels", [1, 8, 16])
def test_the_first_of_equal_maxima_gets_the_gradient(channels):
    x, w = np.ones((2, 8, 8, channels), np.float32), np.zeros((3, 3, channels, 16), np.float32)
    setting = PLAIN | {"padding": ((1, 1), (1, 1)), "pool": 2}
    y, saved = fast_convolution.forward(x, w, np.ones(16, np.float32), **setting)
    g = np.ones_like(y)
    w[1, 1] = 1  # only the middle tap: dx shows which pixels were chosen
    dx, _, db = fast_convolution.backward(g, y, saved, x, w, **setting, wanted=True, bias=True)
    want = np.zeros_like(x)
    want[:, ::2, ::2] = 16
    np.testing.assert_allclose(dx, want, atol=1e-5)
    np.testing.assert_allclose(db, g.sum((0, 1, 2)))


def test_the_error_of_winograd_stays_near_that_of_a_plain_product():
    x, w = np.maximum(untied((2, 32, 32, 64)), 0), untied((3, 3, 64, 64), (2 / 576) ** 0.5)
    setting = PLAIN | {"padding": ((1, 1), (1, 1))}
    assert uses_winograd(x, w, padding=setting["padding"])
    g = untied((2, 32, 32, 64))
    y, saved = fast_convolution.forward(x, w, None, **setting)
    fast = [y, *fast_convolution.backward(g, y, saved, x, w, **setting, wanted=True, bias=False)[:2]]
    plain_setting = {name: setting[name] for name in ("stride", "padding", "dilation", "relu", "pool")}
    y, saved = columns.forward(x, w, None, **plain_setting)
    plain = [y, *columns.backward(g, y, saved, x, w, **plain_setting, wanted=True)[:2]]
    wanted = [reference(x, w, None, **setting), *reference(x, w, None, g, **setting)[:2]]
    for ours, direct, exact in zip(fast, plain, wanted, strict=True):
        assert np.abs(ours - exact).max() <= 10 * np.abs(direct - exact).max()


@pytest.mark.parametrize(
    ("channels", "outputs", "tiles"),
    [(16, 32, 500), (32, 64, 256), (64, 64, 192), (64, 128, 128), (256, 256, 128), (512, 512, 192)],
)
def test_rounds_fit_the_cache_and_with_many_channels_have_no_fewer_numbers_than_the_weights(channels, outputs, tiles):
    x, w = np.ones((500, 4, 4, channels), np.float32), np.ones((3, 3, channels, outputs), np.float32)
    grid = winograd_tiles.Grid.of(x, w, ((1, 1), (1, 1)))  # of a tile an image
    assert next(images.stop - images.start for images, _ in grid.rounds()) == tiles


@pytest.mark.parametrize("small", [False, True], ids=["whole products", "products of some columns"])
def test_winograd_with_many_channels(monkeypatch, small):
    monkeypatch.setattr(winograd, "prefers_small_products", lambda: small)
    x, w = untied((4, 20, 20, 128)), untied((3, 3, 128, 128), 0.05)
    grid = winograd_tiles.Grid.of(x, w, ((1, 1), (1, 1)))
    images, rows = next(grid.rounds())
    assert np.prod(grid.shape(images, rows)) * grid.channels > blas.SMALL_PRODUCT
    assert uses_winograd(x, w, padding=((1, 1), (1, 1)))
    check(x, w, None, padding=((1, 1), (1, 1)))


def test_winograd_saves_no_positions_of_maxima_without_a_backward_pass():
    x, w = untied((2, 64, 64, 16)), untied((3, 3, 16, 32))
    options = PLAIN | {"padding": ((1, 1), (1, 1)), "relu": True, "pool": 2}
    y, saved = fast_convolution.forward(x, w, None, **options)
    alone, nothing = fast_convolution.forward(x, w, None, **options, keep=False)
    assert sum(array.size for array in saved) == y.size
    assert nothing == []
    np.testing.assert_array_equal(alone, y)


def test_saved_is_small():
    x, w = untied((2, 16, 16, 16)), untied((3, 3, 16, 32))
    y, saved = fast_convolution.forward(x, w, None, **(PLAIN | {"padding": ((1, 1), (1, 1)), "pool": 2}))
    assert sum(array.nbytes for array in saved) == y.size
    assert not fast_convolution.forward(x, w, None, **PLAIN)[1]


@pytest.mark.parametrize(
    ("x", "w", "pool"),
    [((2, 18, 18, 16), (3, 3, 16, 8), 2), ((2, 6, 5, 3), (2, 3, 3, 4), 0), ((2, 4, 3, 5, 2), (2, 2, 2, 2, 4), 0)],
    ids=["winograd", "columns", "volumes"],
)
def test_without_a_cotangent_of_the_weights_the_others_are_the_same(x, w, pool):
    x, w, b = untied(x), untied(w), untied(w[-1])
    axes = x.ndim - 2
    setting = {"stride": (1,) * axes, "padding": ((0, 0),) * axes, "dilation": (1,) * axes, "relu": True, "pool": pool}
    y, saved = fast_convolution.forward(x, w, b, **setting)
    g = untied(y.shape)
    dx, dw, db = fast_convolution.backward(g, y, saved, x, w, **setting, wanted=True, bias=True)
    alone = fast_convolution.backward(g, y, saved, x, w, **setting, wanted=True, bias=True, weights=False)
    assert dw is not None
    assert alone[1] is None
    np.testing.assert_array_equal(alone[0], dx)
    np.testing.assert_array_equal(alone[2], db)
