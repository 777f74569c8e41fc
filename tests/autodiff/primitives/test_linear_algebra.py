"""Solutions, inverses and factors of matrices: what they refuse."""

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp.autodiff import primitives as p
from dbp.errors import UserError


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: p.solve(np.zeros((2, 2)), np.ones(2)), "solve: the matrix must not be singular"),
        (lambda: p.inv(np.ones((3, 2, 2))), "inv: the matrix must not be singular"),
        (lambda: p.cholesky(-np.eye(2)), "cholesky: the matrix must be symmetric and positive definite"),
        (lambda: ad.gradient(p.det)(np.zeros((2, 2))), "inv: the matrix must not be singular"),
    ],
)
def test_singular_matrices_are_refused(call, message):
    with pytest.raises(UserError, match=message):
        call()
    with np.errstate(divide="ignore"):  # where only shapes matter
        assert np.isnan(call()).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: p.inv(np.ones((2, 3))), r"inv of shape \(2, 3\): the last two axes must be those of square matrices"),
        (lambda: p.solve(np.eye(2), np.ones((3, 2))), "the right side must have 2 rows"),
        (lambda: p.top_k(np.ones((2, 3)), 4), "axis -1 has fewer than k = 4 elements"),
        (lambda: p.diag(np.ones((2, 2, 2))), "it must be a vector or a matrix"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(call, message):
    with pytest.raises(ad.ShapeError, match=message):
        call()


def test_large_solutions_are_those_of_numpy():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((4, 5, 5)), rng.standard_normal(5)
    np.testing.assert_allclose(np.einsum("sij,sj->si", a, p.solve(a, b)), np.broadcast_to(b, (4, 5)), atol=1e-12)
    assert p.solve(a.astype(np.float32), b.astype(np.float32)).dtype == np.float32
