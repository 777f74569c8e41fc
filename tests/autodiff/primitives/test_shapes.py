"""Shapes: broadcasting and its opposite, padding, indexing, order of axes, and what does not fit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dbp.autodiff as ad
from dbp.autodiff import primitives as p
from dbp.autodiff.primitives.shapes import unbroadcast

RNG = np.random.default_rng(1)
X = RNG.standard_normal((3, 4)) + np.where(RNG.random((3, 4)) < 0.5, 0.1, -0.1)
CUBE = RNG.standard_normal((2, 3, 4))
ROWS = np.array([2, 0, 2])


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


@pytest.mark.parametrize("width", [1, (1, 2), ((1, 2),), ((0, 1), (2, 0))])
def test_widths_of_padding(width):
    np.testing.assert_array_equal(p.pad(X, width), np.pad(X, width))
    ad.check_derivatives(lambda x: p.square(p.pad(x, width)), X)


@pytest.mark.parametrize("width", [-1, ((-1, 1),)])
def test_negative_widths_are_refused(width):
    with pytest.raises(ad.ShapeError, match="negative"):
        p.pad(np.ones(1), width)


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
        (lambda: ad.Tensor(X) @ 2.0, r"a scalar has no axis to sum over; multiply with \*"),
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
