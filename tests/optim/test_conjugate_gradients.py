"""Conjugate gradients: exact solutions, negative curvature and the boundary of a trust region."""

import numpy as np
import pytest

from dbp.optim.conjugate_gradients import Workspace, conjugate_gradients
from tests.optim.functions import Space

RNG = np.random.default_rng(0)
N = 12
A = RNG.normal(size=(N, N))
A, G = A @ A.T + np.eye(N), RNG.normal(size=N)


class Diagonal:
    """A preconditioner that is a diagonal."""

    def __init__(self, inverse):
        self.inverse = inverse

    def apply(self, residual, target):
        target[:] = residual * self.inverse


def solved(matrix, x=None, most=100, inverse=None, **options):
    """Return the minimum, and copies of all iterates on the way."""
    r, p, y = (np.zeros(len(matrix)) for _ in range(3))
    x = np.zeros(len(matrix)) if x is None else x.copy()
    workspace, seen = Workspace(r, p, r) if inverse is None else Workspace(r, p, y, Diagonal(inverse)), []
    for iterate in conjugate_gradients(Space(len(x)), lambda v: matrix @ v, G, x, workspace, **options):
        seen.append((iterate, x.copy()))
        if iterate.number == most:
            break
    return x, seen


def model(matrix, x):
    return G @ x + x @ matrix @ x / 2


@pytest.mark.parametrize("inverse", [None, 1 / np.diag(A)])
@pytest.mark.parametrize("start", [None, RNG.normal(size=N)])
def test_conjugate_gradients_solve_a_linear_system(start, inverse):
    x, seen = solved(A, start, inverse=inverse, damping=0.3)
    damped = A + 0.3 * np.eye(N)
    np.testing.assert_allclose(x, np.linalg.solve(damped, -G), rtol=1e-8)
    for iterate, at in seen:
        assert iterate.model == pytest.approx(model(damped, at), rel=1e-9, abs=1e-12)
    models = [iterate.model for iterate, _ in seen]
    assert models == sorted(models, reverse=True)


def test_as_many_iterations_as_there_are_eigenvalues():
    few = np.diag(np.where(np.arange(N) % 3 == 0, 1.0, 7.0))
    x, seen = solved(few, most=2)
    np.testing.assert_allclose(x, np.linalg.solve(few, -G), rtol=1e-12)
    assert seen[-1][0].number == 2


def test_a_perfect_preconditioner_needs_one_iteration():
    diagonal = np.diag(np.geomspace(1, 1e6, N))
    x, _ = solved(diagonal, most=1, inverse=1 / np.diag(diagonal))
    np.testing.assert_allclose(x, np.linalg.solve(diagonal, -G), rtol=1e-12)


def test_they_end_where_curvature_is_not_positive():
    indefinite = A - 3 * np.eye(N)
    x, seen = solved(indefinite)
    assert seen[-1][0].curvature <= 0
    np.testing.assert_array_equal(x, seen[-2][1])
    assert seen[-1][0].curvature >= np.linalg.eigvalsh(indefinite)[0] - 1e-12


@pytest.mark.parametrize("matrix", [A, A - 3 * np.eye(N), -A, np.zeros((N, N))])
@pytest.mark.parametrize("radius", [1e-3, 0.3, 1.0, 100.0])
def test_steihaugs_boundary(matrix, radius):
    x, seen = solved(matrix, radius=radius)
    lengths = [np.linalg.norm(at) for _, at in seen]
    assert (np.diff(lengths) > -1e-9).all()
    last, inside = seen[-1][0], np.linalg.norm(np.linalg.lstsq(matrix, -G)[0]) < radius
    convex = np.linalg.eigvalsh(matrix)[0] > 0
    assert last.at_boundary == (not (convex and inside))
    assert lengths[-1] == pytest.approx(radius) or not last.at_boundary
    assert last.model == pytest.approx(model(matrix, x))
    cauchy = -radius * G / np.linalg.norm(G)  # the first direction as far as the boundary
    assert last.model <= model(matrix, cauchy) + 1e-12
    if not last.at_boundary:
        np.testing.assert_allclose(matrix @ x, -G, atol=1e-6)


def test_a_gradient_of_zero_leaves_all_as_it_is():
    x = np.zeros(3)
    workspace = Workspace(*np.zeros((2, 3)), np.zeros(3))
    seen = list(conjugate_gradients(Space(3), lambda v: v, np.zeros(3), x, workspace))
    assert [iterate.number for iterate in seen] == [0]
    assert not x.any()
