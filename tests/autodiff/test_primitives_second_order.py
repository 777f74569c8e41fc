"""Second derivatives of the primitives on random shapes, empty and of length one too, in both types."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dbp.autodiff as ad
from dbp import nn
from dbp.autodiff import primitives as p
from tests.autodiff.derivatives import SHAPES, broadcasting_pairs, check_second_order, numbers

FULL_SHAPES = st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple)
few = settings(max_examples=30, deadline=None, derandomize=True)
UNARY = ["exp", "expm1", "square", "abs", "sin", "cos", "tanh", "sigmoid", "softplus", "relu", "elu", "negative"]
POSITIVE = ["log", "log1p", "sqrt"]
COMPOSED = {"leaky_relu": p.leaky_relu, "silu": p.silu, "gelu": p.gelu, "gelu_exact": nn.ACTIVATIONS["gelu_exact"]}


@pytest.mark.parametrize("name", [*UNARY, *POSITIVE, *COMPOSED])
@settings(max_examples=6, deadline=None, derandomize=True)
@given(SHAPES)
def test_functions_of_one_number(name, shape):
    x = 0.3 * numbers(shape)
    check_second_order(COMPOSED.get(name) or ad.PRIMITIVES[name], np.abs(x) + 0.3 if name in POSITIVE else x)


def test_clip_and_where():
    x = numbers((3, 4))
    check_second_order(lambda a: p.square(p.clip(a, low=-0.3, high=0.45)), x)
    check_second_order(lambda a, b: p.where(x > 0, a * b, p.square(b)), x, x[:1] + 0.01)


ARITHMETIC = ["add", "subtract", "multiply", "divide", "power", "maximum", "minimum"]


@pytest.mark.parametrize("name", ARITHMETIC)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(broadcasting_pairs())
def test_arithmetic_with_broadcasting(name, shapes):
    a, b = 0.3 * numbers(shapes[0]), 0.3 * (numbers(shapes[1], 1) + 0.035)
    if name == "divide":
        b = np.sign(b) * (np.abs(b) + 0.6)
    if name == "power":
        a = np.abs(a) + 0.6
    check_second_order(ad.PRIMITIVES[name], a, b)


REDUCTIONS = [p.sum_, p.mean, p.variance, p.max_, p.logsumexp]


@few
@given(st.sampled_from(REDUCTIONS), FULL_SHAPES, st.data())
def test_reductions_over_any_axes(function, shape, data):
    axes = data.draw(st.none() | st.integers(-len(shape), len(shape) - 1))
    if axes is not None and data.draw(st.booleans()):
        axes = tuple({axes % len(shape), data.draw(st.integers(0, len(shape) - 1))})
    check_second_order(lambda x: function(x, axis=axes), numbers(shape))


@few
@given(st.sampled_from(REDUCTIONS), FULL_SHAPES)
def test_reductions_beside_an_empty_axis(function, shape):
    check_second_order(lambda x: function(x, axis=-1), numbers((0, *shape)))


def test_the_sum_of_nothing_is_zero():
    check_second_order(lambda x: p.sum_(x, axis=0), numbers((0, 3)))
    np.testing.assert_array_equal(p.sum_(ad.Tensor(np.zeros((0, 3))), axis=0).value, np.zeros(3))


@few
@given(st.lists(st.integers(0, 3), min_size=3, max_size=3), SHAPES.filter(lambda s: len(s) < 3), st.booleans())
def test_matmul_of_any_stacks(sizes, stack, both):
    m, k, n = sizes
    check_second_order(p.matmul, numbers((*stack, m, k)), numbers((*stack, k, n) if both else (k, n), 1))


RULES = ["ij,jk->ik", "ij->", "ij->ji", "i,j->ij", "bi,bj->bij", "ij,k->k", "bij,bjk->bik", "ij,jk,kl->il", "i,i,i->"]


@few
@given(st.sampled_from(RULES), st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_einsum(rule, lengths):
    length = dict(zip("bijkl", lengths, strict=True))
    operands = rule.split("->")[0].split(",")
    points = [0.5 * numbers([length[letter] for letter in letters], i) for i, letters in enumerate(operands)]
    check_second_order(lambda *xs: p.einsum(*xs, rule=rule), *points)


@few
@given(st.sampled_from([p.softmax, p.log_softmax]), SHAPES, st.integers(1, 4))
def test_softmax_along_the_last_axis(function, shape, classes):
    x = numbers((*shape, classes))
    check_second_order(function, x)
    np.testing.assert_allclose(np.sum(np.exp(p.log_softmax(x)), axis=-1), np.ones(shape))


@few
@given(st.integers(0, 3), st.integers(1, 4), st.data())
def test_pick_and_place(rows, columns, data):
    index = np.array([data.draw(st.integers(0, columns - 1)) for _ in range(rows)], np.intp)
    check_second_order(lambda x: p.pick(x, index=index), numbers((rows, columns)))
    check_second_order(lambda x: p.scatter_rows(x, index=index, width=columns), numbers((rows,)))
    check_second_order(lambda z: ad.cross_entropy_block(z, targets=index), numbers((rows, columns)))


@st.composite
def indices(draw, shape):
    """Draw an index as NumPy takes them: integers, slices, and arrays that may name a row twice."""
    index = []
    for n in shape[: draw(st.integers(1, len(shape)))]:
        slices = st.builds(slice, st.integers(0, n), st.integers(0, n), st.sampled_from([None, 1, 2]))
        index.append(draw(slices | st.integers(-n, n - 1) if n else slices))
    if draw(st.booleans()) and shape[0]:
        rows = draw(st.lists(st.integers(-shape[0], shape[0] - 1), max_size=4))
        index = [np.array(rows, np.intp), *[slice(None)] * (len(shape) - 1)]
    return tuple(index)


@few
@given(st.lists(st.integers(0, 3), min_size=1, max_size=3).map(tuple), st.data())
def test_take_and_put(shape, data):
    index = data.draw(indices(shape))
    x = numbers(shape)
    check_second_order(lambda a: p.square(p.take(a, index=index)), x)
    part = numbers(np.shape(x[index]), 1)
    check_second_order(lambda b: p.square(p.scatter_add(b, index=index, shape=shape)), part)
    put, taken = p.scatter_add(part, index=index, shape=shape), p.take(x, index=index)
    np.testing.assert_allclose(np.sum(put * x), np.sum(part * taken), atol=1e-12)


@few
@given(SHAPES.filter(len), st.lists(st.integers(0, 3), min_size=1, max_size=3), st.data())
def test_concatenate(shape, lengths, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    shapes = [[n if i == axis % len(shape) else m for i, m in enumerate(shape)] for n in lengths]
    points = [numbers(s, i) for i, s in enumerate(shapes)]
    np.testing.assert_array_equal(p.concatenate(*points, axis=axis), np.concatenate(points, axis=axis))
    check_second_order(lambda *xs: p.square(p.concatenate(*xs, axis=axis)), *points)


@few
@given(SHAPES.filter(len), st.data())
def test_pad(shape, data):
    width = tuple(tuple(data.draw(st.integers(0, 2)) for _ in range(2)) for _ in shape)
    check_second_order(lambda x: p.square(p.pad(x, width=width)), numbers(shape))


@few
@given(SHAPES, st.data())
def test_changes_of_shape(shape, data):
    axes = tuple(data.draw(st.permutations(range(len(shape)))))
    x = numbers(shape)
    check_second_order(lambda a: p.square(p.transpose(a, axes=axes)), x)
    check_second_order(lambda a: p.square(p.reshape(a, shape=(x.size, 1))), x)
    check_second_order(lambda a: p.square(p.broadcast_to(a, shape=(2, *shape))), x)
