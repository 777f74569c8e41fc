"""Sums of cotangents in place: the bits of sums in new memory, and no array that somebody else has is written to."""

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp.autodiff.cotangents import Cotangents
from dbp.autodiff.tensor import PRIMITIVES

RNG = np.random.default_rng(6)
X, G = RNG.standard_normal((2, 4, 9, 9, 5))
W, V = RNG.standard_normal((2, 3, 3, 5, 5))
SCALE, SHIFT = RNG.standard_normal((2, 5))
WINDOW = ad.Window((3, 3), padding=((1, 1), (1, 1)))
BLOCKS = [name for name, primitive in PRIMITIVES.items() if primitive.new_cotangents]


def convolved(x, w):
    return ad.convolution_block(x, w, None, WINDOW)


def normalized(x, relu_after=False):
    moments = ad.channel_moments(ad.array_of(x))
    return ad.batch_normalize_block(x, SCALE, SHIFT, moments=moments, epsilon=0.1, relu_after=relu_after)


def shortcut(x, w, v):
    y = normalized(convolved(x, w), relu_after=True)
    return ad.add_relu_block(normalized(convolved(y, v)), y)


def two_shortcuts(x, w, v):
    y = shortcut(x, w, v)
    return ad.add_relu_block(normalized(y), normalized(convolved(y, v))) + y * y


def normalized_twice(x, w, _v):
    y = convolved(x, w)
    return normalized(y) + normalized(y, relu_after=True)


MODELS = {
    "chain": lambda x, w, v: convolved(normalized(convolved(x, w), relu_after=True), v),
    "shortcut": shortcut,
    "two shortcuts": two_shortcuts,
    "sum with itself": lambda x, w, _v: ad.add_relu_block(normalized(x), normalized(x)) + convolved(x, w),
    "one twice": lambda x, w, _v: ad.add_relu_block(*[convolved(x, w)] * 2),
    "normalized twice": normalized_twice,
    "a view": lambda x, w, v: convolved(normalized(ad.reshape(convolved(x, w)[::-1], shape=X.shape)), v),
    "the mean": lambda x, w, _v: x * ad.mean(normalized(convolved(x, w)), axis=(1, 2), keepdims=True),
}


def gradients(model, monkeypatch, in_place):
    """Return the cotangents of all tensors in the graph, leaves or not."""
    with monkeypatch.context() as changes:
        for name in BLOCKS if not in_place else ():
            changes.setattr(PRIMITIVES[name], "new_cotangents", False)
        leaves = [ad.Tensor(a) for a in (X, W, V)]
        output = model(*leaves)
        given, kept = G.copy(), [node.value.copy() for node in ad.graph_nodes(output)]
        all_at_once = ad.pullback(output, given, ad.graph_nodes(output))
        found = [*ad.pullback(output, given, leaves), *all_at_once]
        np.testing.assert_array_equal(given, G)
        for node, value in zip(ad.graph_nodes(output), kept, strict=True):
            np.testing.assert_array_equal(node.value, value)
    return found


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_bits_are_those_of_sums_in_new_memory(model, monkeypatch):
    assert {"batch_normalize_block", "convolution_block", "add_relu_block"} <= {*BLOCKS}
    pairs = zip(gradients(model, monkeypatch, True), gradients(model, monkeypatch, False), strict=True)
    for found, expected in pairs:
        if expected is None:
            assert found is None
        else:
            np.testing.assert_array_equal(found, expected)


def test_sums_are_in_the_memory_of_a_part_that_nobody_else_has():
    a, b = ad.Tensor(np.zeros(3)), ad.Tensor(np.zeros(3))
    cotangents, own, other = Cotangents(ad.Tensor(0.0), 1.0), np.arange(3.0), np.ones(3)
    cotangents.add([a], [own], new=True)
    cotangents.add([a], [other], new=False)
    assert cotangents[a.created] is own is cotangents.memory_of(a.created)
    cotangents.add([b], [other], new=False)
    assert cotangents.memory_of(b.created) is None
    later = np.full(3, 5.0)
    cotangents.add([b], [later], new=True)
    assert cotangents[b.created] is later is cotangents.memory_of(b.created)
    np.testing.assert_array_equal([own, later, other], [[1, 2, 3], [6, 6, 6], [1, 1, 1]])


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("part", "is_shared"),
    [
        (np.ones(3), True),
        (np.ones(3, np.float32), False),
        (np.ones(1), False),
        (read_only(np.ones(3)), False),
        (np.float64(1), False),
    ],
    ids=["of two inputs", "another type", "another shape", "read-only", "a number"],
)
def test_other_parts_are_not_written_to(part, is_shared):
    a, b = ad.Tensor(np.zeros(3)), ad.Tensor(np.zeros(3))
    cotangents, given = Cotangents(a, np.arange(3.0)), np.copy(part)
    cotangents.add([a, b] if is_shared else [a], [part] * (1 + is_shared), new=True)
    np.testing.assert_array_equal(cotangents[a.created], [1, 2, 3])
    np.testing.assert_array_equal(part, given)
    cotangents.add([a], [np.ones(3)], new=False)
    np.testing.assert_array_equal(cotangents[a.created], [2, 3, 4])
    np.testing.assert_array_equal(part, given)


def test_a_normalization_writes_over_a_cotangent_of_its_own(monkeypatch):
    block, is_same = PRIMITIVES["batch_normalize_block"], []
    backward = block._backward

    def noted(g, *rest, **options):
        parts = backward(g, *rest, **options)
        is_same.append(parts[0] is g)
        return parts

    monkeypatch.setattr(block, "_backward", noted)
    for model in (MODELS["chain"], MODELS["shortcut"]):
        leaves = [ad.Tensor(a) for a in (X, W, V)]
        ad.pullback(model(*leaves), G, leaves)
    assert is_same == [True, False, True]  # not that of a sum, which is the shortcut's too


ROWS, MATRIX, OTHER = RNG.standard_normal((3, 5, 5))
IN_PLACE = {
    "layer_normalize_block": lambda x, _w: ad.layer_normalize_block(x, SCALE, SHIFT, epsilon=0.1),
    "rms_normalize_block": lambda x, _w: ad.rms_normalize_block(x, SCALE, epsilon=0.1),
    "gelu_block": lambda x, _w: ad.gelu_block(x),
    "dense_block": lambda x, w: ad.dense_block(x, w, SHIFT, activation="gelu"),
}


@pytest.mark.parametrize("name", IN_PLACE)
@pytest.mark.parametrize("leaves_first", [False, True])
@pytest.mark.parametrize("is_shared", [False, True])
def test_blocks_write_over_a_cotangent_of_their_own(monkeypatch, name, leaves_first, is_shared):
    block, changed = PRIMITIVES[name], []
    backward = block._backward

    def noted(g, *rest, **options):
        before = g.copy()
        parts = backward(g, *rest, **options)
        changed.append(not np.array_equal(before, g))
        return parts

    def results():
        x, w, v = leaves = [ad.Tensor(array) for array in (ROWS, MATRIX, OTHER)]
        output = IN_PLACE[name](x * x, w)
        end = output + x if is_shared else ad.dense_block(output, v, None, activation="linear")
        into = [np.empty_like(leaf.value) for leaf in leaves]
        ad.pullback(end, G[0, :5, :5, 0], leaves, into=into, on_ready=(lambda *_: None) if leaves_first else None)
        return into

    with monkeypatch.context() as changes:
        for other in ("dense_block", name):
            changes.setattr(PRIMITIVES[other], "takes_memory", False)
        expected = results()
    monkeypatch.setattr(block, "_backward", noted)
    np.testing.assert_array_equal(results(), expected)
    assert any(changed) is not is_shared
