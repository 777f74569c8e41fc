"""Functions that were written for NumPy, differentiated as they are."""

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp.autodiff.numpy_functions import FUNCTIONS, UFUNCS

RNG = np.random.default_rng(3)
X = RNG.standard_normal((3, 4))
CUBE = RNG.standard_normal((2, 3, 4))
SQUARE = X @ X.T + np.eye(3)
INSIDE = 0.8 * np.tanh(X)  # in the domain of every elementwise function but these
POSITIVE = {np.log, np.log2, np.log10, np.log1p, np.sqrt, np.power, np.float_power, np.reciprocal, np.arccosh}

CALLS = {
    np.sum: lambda x: (
        np.sum(x, axis=(0, -1)) @ np.sum(x, 0, keepdims=True)[..., 0].ravel() if x.ndim == 3 else np.sum(x)
    ),
    np.mean: lambda x: np.mean(x, axis=1, keepdims=True),
    np.prod: lambda x: np.prod(x, 1) + np.prod(x),
    np.max: lambda x: np.max(x, axis=-1),
    np.amax: lambda x: np.amax(x),
    np.min: lambda x: np.min(x, axis=-1),
    np.amin: lambda x: np.amin(x),
    np.var: lambda x: np.var(x, axis=0, ddof=1),
    np.std: lambda x: np.std(x, axis=0) + np.std(x, ddof=1, keepdims=True),
    np.cumsum: lambda x: np.cumsum(x) * np.sum(np.cumsum(x, axis=1)),
    np.sort: lambda x: np.sort(x) @ np.ones(4) + np.sort(x, axis=None)[5],
    np.reshape: lambda x: np.reshape(x, (4, -1)),
    np.ravel: lambda x: np.ravel(x),
    np.transpose: lambda x: np.transpose(x, (1, 0, 2)[: x.ndim]),
    np.expand_dims: lambda x: np.expand_dims(x, (0, 2)),
    np.squeeze: lambda x: np.squeeze(np.expand_dims(x, 1), axis=1),
    np.atleast_1d: lambda x: np.atleast_1d(np.sum(x)),
    np.atleast_2d: lambda x: np.atleast_2d(x[0, 0]),
    np.swapaxes: lambda x: np.swapaxes(x, 0, -1),
    np.moveaxis: lambda x: np.moveaxis(x, [0, 1], [-1, 0]),
    np.broadcast_to: lambda x: np.broadcast_to(x, (5, *x.shape)),
    np.concatenate: lambda x: (
        np.concatenate([x, 2 * x], axis=1)[..., 1:] @ np.concatenate((x, x), axis=None)[:7, None]
        if x.ndim == 2
        else np.concatenate([x, x])
    ),
    np.stack: lambda x: np.stack([x, -x], axis=-1),
    np.vstack: lambda x: np.vstack([x[0], x[1] * 2]),
    np.hstack: lambda x: np.hstack([x, x]),
    np.split: lambda x: np.split(x, 2, axis=-1)[1] + np.split(x, [2], axis=-1)[0],
    np.where: lambda x: np.where(x > 0, x, x * x),
    np.clip: lambda x: np.clip(x, -0.5, None) + np.clip(x, np.zeros(4), 1),
    np.pad: lambda x: np.pad(x, ((1, 0), (0, 2))) if x.ndim == 2 else np.pad(x, 1),
    np.take: lambda x: np.take(x, [0, 2, 2], axis=-1) * np.take(x, 3),
    np.take_along_axis: lambda x: np.take_along_axis(x, np.argsort(x, axis=0), axis=0),
    np.diag: lambda x: np.diag(np.ravel(x)[:3], 1),
    np.trace: lambda x: np.trace(x[0].reshape(2, -1)) if x.ndim == 2 else np.trace(x[0]),
    np.tril: lambda x: np.tril(x, 1),
    np.triu: lambda x: np.triu(x),
    np.roll: lambda x: np.roll(x, 1) + np.roll(x, -1, axis=0),
    np.flip: lambda x: np.flip(x, axis=0),
    np.repeat: lambda x: np.repeat(x, 2),
    np.tile: lambda x: np.tile(x, (2, 1, 3)),
    np.diff: lambda x: np.diff(x, n=2),
    np.dot: lambda x: np.dot(x, x[0]) * np.dot(2.0, x[0, 0]) if x.ndim == 2 else np.dot(X, np.swapaxes(x, 1, 2)),
    np.outer: lambda x: np.outer(x, x[0]),
    np.kron: lambda x: np.kron(x, X),
    np.tensordot: lambda x: np.tensordot(x, X, axes=([-1, -2], [1, 0])),
    np.einsum: lambda x: np.einsum("...ij,...ij->...i", x, x),
    np.copy: lambda x: np.copy(x) * x.copy(),
    np.linalg.norm: lambda x: np.linalg.norm(x) + np.linalg.norm(x, axis=-1) + np.linalg.norm(x, np.inf, -1),
}
OF_SQUARE = {
    np.linalg.solve: lambda a: np.linalg.solve(a, X) @ np.ones(4) + np.linalg.solve(a, a[0]),
    np.linalg.inv: lambda a: np.linalg.inv(a),
    np.linalg.det: lambda a: np.linalg.det(a),
    np.linalg.cholesky: lambda a: np.linalg.cholesky(a @ a.T),
}


def check(function, *points):
    """Compare the values with NumPy's, and the derivatives with differences."""
    value = function(*map(ad.Tensor, points))
    assert type(value) is ad.Tensor
    np.testing.assert_allclose(value.value, function(*points), rtol=1e-12, atol=1e-13)
    ad.check_derivatives(function, *points)


def test_every_function_has_a_call():
    assert CALLS.keys() | OF_SQUARE.keys() == FUNCTIONS.keys()


@pytest.mark.parametrize("function", CALLS, ids=lambda function: function.__name__)
def test_functions_of_arrays(function):
    for x in (X, CUBE):
        check(CALLS[function], x)


@pytest.mark.parametrize("function", OF_SQUARE, ids=lambda function: function.__name__)
def test_functions_of_matrices(function):
    check(OF_SQUARE[function], SQUARE)


@pytest.mark.parametrize("ufunc", UFUNCS, ids=lambda ufunc: ufunc.__name__)
def test_elementwise_functions(ufunc):
    x = np.abs(INSIDE) + 0.1 if ufunc in POSITIVE else INSIDE
    x = x + 1 if ufunc is np.arccosh else x
    points = [x] if ufunc.nin == 1 else [SQUARE, x] if ufunc is np.matmul else [x, x[:1] + 0.3]
    check(ufunc, *points)


def test_methods_of_arrays():
    def function(x):
        rows = [x.sum(axis=0), x.mean(0), x.max(axis=0), x.min(0), x.prod(axis=0), x.std(axis=0), x.var(0)]
        moved = x.transpose(1, 0).swapaxes(0, 1).flatten().repeat(2).take([3, 4])
        total = x.reshape(4, 3).T.reshape((12,)).cumsum().sum() * x.clip(-1, 1).sum() + x.transpose().dot(x).trace()
        return total + moved.sum() + sum(row.sum() for row in rows) + x[0].ravel()[1]

    check(function, X)


def test_functions_without_a_derivative_return_plain_arrays():
    x = ad.Tensor(X)
    for found, expected in [
        (np.argmax(x, axis=1), X.argmax(axis=1)),
        (x.argsort(axis=0), X.argsort(axis=0)),
        (np.isfinite(x), np.isfinite(X)),
        (np.floor(x), np.floor(X)),
        (np.zeros_like(x), np.zeros_like(X)),
        (np.full_like(x, 3.0), np.full_like(X, 3.0)),
        (np.where(x > 0)[0], np.where(X > 0)[0]),
        ((x > 0).any(axis=0), (X > 0).any(axis=0)),
    ]:
        assert type(found) is np.ndarray
        np.testing.assert_array_equal(found, expected)


def test_a_function_for_numpy_alone_is_differentiated_as_it_is():
    def rosenbrock(x):
        return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    point = np.array([1.2, -0.4, 0.7])
    before = 400 * point[:-1] * (point[:-1] ** 2 - point[1:]) - 2 * (1 - point[:-1])
    after = 200 * (point[1:] - point[:-1] ** 2)
    np.testing.assert_allclose(ad.gradient(rosenbrock)(point), np.append(before, 0) + np.insert(after, 0, 0))
    assert ad.hessian(rosenbrock)(point)[0, 0] == pytest.approx(1200 * 1.44 - 400 * -0.4 + 2)


def test_single_precision_stays_single():
    x = X.astype(np.float32)
    for function in (np.std, np.linalg.norm, np.prod, np.log2, np.arctan, np.cumsum, lambda x: np.linalg.inv(x @ x.T)):
        gradient = ad.gradient(lambda x, function=function: np.sum(function(x * x)))(x)
        assert gradient.dtype == np.float32
        assert np.isfinite(gradient).all()
