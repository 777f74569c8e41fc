"""Blocks of attention: their specification, however scores are cut into tiles; examples that do not see each other."""

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp.autodiff.blocks import attention, attention_tiles
from tests.autodiff.derivatives import check_second_order

HEADS, CHANNELS = 2, 6


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def three(rows, keys, examples=3):
    """Return queries, keys and values."""
    return [numbers(examples, length, CHANNELS, seed=i) for i, length in enumerate((rows, keys, keys))]


def results(block, inputs, **options):
    """Return the output of a block and the cotangents of its inputs."""
    leaves = [ad.Tensor(x) for x in inputs]
    y = block(*leaves, heads=HEADS, **options)
    return [y.value, *ad.pullback(y, np.cos(np.arange(y.size, dtype=y.dtype)).reshape(y.shape), leaves)]


SIZES = (
    (1 << 18, 128, 64, 99, 4),
    (1 << 18, 128, 64, 99, 0),
    (200, 7, 4, 99, 4),  # two of three examples at a time
    (24, 1, 64, 99, 4),
    (30, 4, 2, 8, 0),
    (8, 1, 3, 99, 4),
)


@pytest.fixture(params=SIZES, ids=str)
def tiles(request, monkeypatch):
    """Set the sizes of tiles, and how long sequences may be whose exponentials are kept."""
    *of_tiles, kept = request.param
    for name, value in zip(("TILE", "QUERIES", "CAUSAL_QUERIES", "LONG"), of_tiles, strict=True):
        monkeypatch.setattr(attention_tiles, name, value)
    monkeypatch.setattr(attention, "KEPT", kept)
    attention_tiles.tiles_of.cache_clear()
    yield
    attention_tiles.tiles_of.cache_clear()


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("rows", "keys"), [(7, 7), (3, 8), (8, 3), (1, 1)])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 2e-5)])
def test_it_is_its_specification_however_scores_are_cut(causal, masked, rows, keys, dtype, tolerance):
    inputs = [x.astype(dtype) for x in three(rows, keys)]
    mask = np.arange(keys) < np.array([[keys], [max(1, keys // 2)], [0]]) if masked else None
    found = results(ad.attention_block, inputs, causal=causal, mask=mask)
    expected = results(ad.attention_block._function, inputs, causal=causal, mask=mask)
    for own, other in zip(found, expected, strict=True):
        assert own.dtype == dtype
        np.testing.assert_allclose(own, other, rtol=tolerance, atol=tolerance * max(1, np.abs(other).max()))


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("causal", [False, True])
def test_queries_keys_and_values_side_by_side(causal):
    parts = three(7, 7)
    y, by_parts = results(ad.self_attention_block, [np.concatenate(parts, axis=2)], causal=causal)
    expected, *by_each = results(ad.attention_block, parts, causal=causal)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(by_parts, np.concatenate(by_each, axis=2))


def test_exponentials_that_are_computed_again_have_the_same_bits(monkeypatch):
    inputs = [x.astype(np.float32) for x in three(9, 9)]
    kept = results(ad.attention_block, inputs, causal=True)
    monkeypatch.setattr(attention, "KEPT", 0)
    for own, other in zip(results(ad.attention_block, inputs, causal=True), kept, strict=True):
        np.testing.assert_array_equal(own, other)


def test_a_cotangent_whose_numbers_do_not_lie_side_by_side():
    leaves = [ad.Tensor(x) for x in three(5, 5)]
    y = ad.attention_block(*leaves, heads=HEADS)
    turned = numbers(CHANNELS, 5, 3).transpose(2, 1, 0)
    expected = ad.pullback(y, turned.copy(order="C"), leaves)
    for own, other in zip(ad.pullback(y, turned, leaves), expected, strict=True):
        np.testing.assert_array_equal(own, other)


def test_an_example_has_the_bits_that_it_has_alone():
    inputs = [np.repeat(x.astype(np.float32), 30, axis=1) for x in three(5, 5)]
    together = results(ad.attention_block, inputs)
    alone = ad.attention_block(*(x[1:2] for x in inputs), heads=HEADS)
    np.testing.assert_array_equal(alone[0], together[0][1])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", [None, np.array([[True, True, False, True, True], [True, False, True, True, False]])])
def test_second_derivatives(causal, mask):
    q, k, v = (0.5 * x[:2] for x in three(4, 5))
    check_second_order(lambda *given: ad.attention_block(*given, heads=HEADS, causal=causal, mask=mask), q, k, v)
    qkv = 0.5 * numbers(2, 5, 3 * CHANNELS)
    check_second_order(lambda x: ad.self_attention_block(x, heads=HEADS, causal=causal, mask=mask), qkv)


@pytest.mark.parametrize("given", [(0,), (1,), (2,), (0, 1, 2)])
def test_tangents(given):
    inputs, directions = three(4, 5), [numbers(*x.shape, seed=9) for x in three(4, 5)]
    pairs = tuple(directions[i] if i in given else None for i in range(3))
    fast = ad.jvp(lambda *x: ad.attention_block(*x, heads=HEADS, causal=True), tuple(inputs), pairs)
    plain = ad.jvp(lambda *x: ad.attention_block._function(*x, heads=HEADS, causal=True), tuple(inputs), pairs)
    for own, other in zip(fast, plain, strict=True):
        np.testing.assert_allclose(own, other, atol=1e-12)


def test_nothing_to_attend_to_gives_zeros():
    q, k, v = three(4, 0)
    for found in results(ad.attention_block, [q, k, v]):
        np.testing.assert_array_equal(found, np.zeros(found.shape))


@pytest.mark.parametrize("score", [60, -60])
def test_sums_of_exponentials_beyond_the_usual_ones(score):
    """Without their largest score, exponentials of all keys of a query would be too large or too small."""
    q, k, v = three(5, 5)
    q[:, 3] += score
    k += 3**0.5  # about the score of that query times the root of the width of a head, by each of its 3 channels
    found = results(ad.attention_block, [x.astype(np.float32) for x in (q, k / 3, v)])
    for own, other in zip(found, results(ad.attention_block._function, [q, k / 3, v]), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())


@pytest.mark.parametrize("factor", [1e3, np.nan])
def test_a_query_has_the_bits_that_it_has_beside_usual_ones(factor):
    q, k, v = (x.astype(np.float32) for x in three(6, 6))
    usual = ad.attention_block(q, k, v, heads=HEADS)
    q[:, 2] *= np.float32(factor)
    beside = ad.attention_block(q, k, v, heads=HEADS)
    others = np.arange(6) != 2
    np.testing.assert_array_equal(beside[:, others], usual[:, others])
    assert not np.array_equal(beside[:, 2], usual[:, 2])


def test_large_scores_do_not_overflow():
    q, k, v = (x.astype(np.float32) for x in three(4, 4))
    y = ad.attention_block(1e4 * q, 1e4 * k, v, heads=HEADS)
    by_head = (x.reshape(3, 4, HEADS, -1).transpose(0, 2, 1, 3) for x in (q, k, v))
    query, key, value = by_head
    best = (query @ key.swapaxes(2, 3)).argmax(axis=-1)
    expected = np.take_along_axis(value, best[..., None], axis=2).transpose(0, 2, 1, 3).reshape(3, 4, CHANNELS)
    np.testing.assert_allclose(y, expected)
