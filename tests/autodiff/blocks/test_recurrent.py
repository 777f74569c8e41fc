"""Recurrent blocks beside their specifications, which go from position to position."""

import numpy as np
import pytest

import dbp.autodiff as ad

N, LENGTH, CHANNELS, UNITS = 3, 4, 2, 3
GATES = {"lstm": 4, "gru": 3}
BLOCKS = {"lstm": (ad.lstm_block, ad.lstm_by_position), "gru": (ad.gru_block, ad.gru_by_position)}
MASK = np.arange(LENGTH) < np.array([4, 1, 0])[:, None]
SETTINGS = {
    "all states": {},
    "the last state": {"sequences": False},
    "backward": {"backward": True},
    "masked": {"mask": MASK},
    "masked, the last state, backward": {"mask": MASK[:, ::-1], "sequences": False, "backward": True},
}
EVERY = [(kind, name) for kind in BLOCKS for name in SETTINGS]


def arrays(kind, n=N, length=LENGTH, channels=CHANNELS, units=UNITS, dtype=float):
    """Return inputs and parameters of a layer."""
    rng, sums = np.random.default_rng(5), GATES[kind] * units
    shapes = [(n, length, channels), (channels, sums), (sums,), (units, sums), *[(units,)] * (kind == "gru")]
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def scalar(function, settings, count):
    """Return a curved scalar of the states, and the numbers of its arguments."""

    def number(*points):
        y = function(*points, **settings)
        weights = np.cos(np.arange(np.size(ad.array_of(y)))).reshape(np.shape(y))
        return ad.sum_(y * y * weights.astype(y.dtype))

    return number, tuple(range(count))


def close(found, expected, tolerance=1e-11):
    for one, other in zip(found, expected, strict=True):
        assert (np.shape(one), one.dtype) == (np.shape(other), other.dtype)
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * max(1, np.abs(other).max(initial=0)))


@pytest.mark.parametrize(("kind", "name"), EVERY)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_value_and_derivatives_are_those_of_the_specification(kind, name, dtype):
    points, settings = arrays(kind, dtype=dtype), SETTINGS[name]
    tolerance = 1e-11 if dtype == np.float64 else 2e-5
    of_block, of_specification = (scalar(f, settings, len(points)) for f in BLOCKS[kind])
    close([f(*points, **settings) for f in BLOCKS[kind][:1]], [BLOCKS[kind][1](*points, **settings)], tolerance)
    by = of_block[1]
    close(ad.gradient(of_block[0], by)(*points), ad.gradient(of_specification[0], by)(*points), tolerance)
    directions = tuple(np.cos(point) for point in points)
    found, expected = (ad.hessian_product(f, tuple(points), directions) for f, _ in (of_block, of_specification))
    close(found, expected, 10 * tolerance)


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_any_input_alone_may_be_asked_for(kind, name):
    points, settings = arrays(kind), SETTINGS[name]
    fast, plain = BLOCKS[kind]
    for i in range(len(points)):

        def alone(function, point, i=i):
            return function(*points[:i], point, *points[i + 1 :], **settings)

        own, other = (ad.gradient(scalar(lambda p, f=f: alone(f, p), {}, 1)[0])(points[i]) for f in (fast, plain))
        close([own], [other])
        direction = np.sin(points[i])
        own, other = (ad.jvp(lambda p, f=f: alone(f, p), (points[i],), (direction,))[1] for f in (fast, plain))
        close([own], [other])


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_states_are_the_same_bits_where_nothing_is_recorded(kind, name):
    points, settings = arrays(kind, dtype=np.float32), SETTINGS[name]
    alone = BLOCKS[kind][0](*points, **settings)
    recorded = BLOCKS[kind][0](ad.Tensor(points[0]), *points[1:], **settings)
    np.testing.assert_array_equal(alone, recorded.value)
    assert alone.flags.c_contiguous


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_pass_backward_is_one_over_the_reversed_sequence(kind):
    x, *parameters = arrays(kind, dtype=np.float32)
    turned = BLOCKS[kind][0](x[:, ::-1], *parameters)[:, ::-1]
    np.testing.assert_array_equal(BLOCKS[kind][0](x, *parameters, backward=True), turned)


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_mask_holds_states_and_one_that_is_all_true_changes_no_bit(kind):
    points, block = arrays(kind, dtype=np.float32), BLOCKS[kind][0]
    y, held = (block(*points, mask=mask) for mask in (np.ones_like(MASK), MASK))
    np.testing.assert_array_equal(y, block(*points))
    np.testing.assert_array_equal(held[1], np.repeat(y[1, :1], LENGTH, axis=0))
    np.testing.assert_array_equal(held[2], np.zeros_like(held[2]))


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_graph_can_be_pulled_back_twice_and_into_arrays_of_the_caller(kind):
    leaves = [ad.Tensor(point) for point in arrays(kind, dtype=np.float32)]
    y = BLOCKS[kind][0](*leaves)
    g = np.cos(np.arange(y.size, dtype=np.float32)).reshape(y.shape)
    found = ad.pullback(y, g, leaves)
    into, ready = [np.full_like(leaf.value, np.nan) for leaf in leaves], []
    ad.pullback(y, g, leaves, into=into, on_ready=lambda number, start: ready.append((number, start)))
    for one, other in zip(found, into, strict=True):
        np.testing.assert_array_equal(one, other)
    assert {number for number, start in ready if start == 0} == set(range(len(leaves)))


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize(("n", "length"), [(0, 3), (2, 0), (1, 1)])
@pytest.mark.parametrize("sequences", [True, False])
def test_no_examples_and_no_positions(kind, n, length, sequences):
    points, settings = arrays(kind, n, length), {"sequences": sequences}
    fast, plain = BLOCKS[kind]
    close([fast(*points, **settings)], [plain(*points, **settings)])
    for tensors in (points[:1], points):
        leaves = [ad.Tensor(point) for point in tensors]
        y = fast(*leaves, *points[len(leaves) :], **settings)
        for leaf, g in zip(leaves, ad.pullback(y, np.ones_like(y.value), leaves), strict=True):
            assert g.shape == leaf.shape
            assert np.isfinite(g).all()
            assert n * length or not g.any()


@pytest.mark.parametrize("kind", BLOCKS)
def test_inputs_of_several_types_are_computed_in_the_one_that_holds_all(kind):
    x, *parameters = arrays(kind)
    for inputs, weights in ((np.float64, np.float32), (np.float32, np.float64), (np.int64, np.float32)):
        given = [np.round(x).astype(inputs), *(p.astype(weights) for p in parameters)]
        own, other = (f(*given) for f in BLOCKS[kind])
        assert own.dtype == other.dtype == np.float64
        np.testing.assert_allclose(own, other, rtol=1e-12)
