"""Products of matrices and stacks of them, and einsum by every rule of NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dbp.autodiff as ad
from dbp.autodiff import primitives as p
from tests.autodiff.derivatives import SHAPES, numbers


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=3, max_size=3), SHAPES.filter(lambda s: len(s) < 3), st.booleans())
def test_matmul_of_any_stacks(sizes, stack, both):
    m, k, n = sizes
    ad.check_derivatives(p.matmul, numbers((*stack, m, k)), numbers((*stack, k, n) if both else (k, n)), tolerance=1e-4)


@pytest.mark.parametrize(
    ("rule", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("ij->", [(2, 3)]),
        ("ij->ji", [(2, 3)]),
        ("bi,bj->bij", [(2, 3), (2, 4)]),
        ("ij,k->k", [(2, 3), (4,)]),
        ("bhqd,bhkd->bhqk", [(2, 2, 3, 4), (2, 2, 5, 4)]),
        ("ij,jk,kl->il", [(0, 3), (3, 1), (1, 2)]),
    ],
)
def test_einsum(rule, shapes):
    xs = [numbers(shape, i) for i, shape in enumerate(shapes)]
    np.testing.assert_allclose(p.einsum(*xs, rule=rule), np.einsum(rule, *xs))
    ad.check_derivatives(lambda *xs: p.einsum(*xs, rule=rule), *xs, tolerance=1e-4)


@pytest.mark.parametrize(
    ("rule", "shapes"),
    [
        ("ij,jk->ik", [(2, 1), (3, 4)]),
        ("ij,ij->i", [(1, 3), (2, 1)]),
        ("ii->", [(3, 3)]),
        ("ii->i", [(3, 3)]),
        ("bii,i->b", [(2, 3, 3), (3,)]),
        ("iji,i", [(2, 3, 2), (2,)]),
        ("iii", [(2, 2, 2)]),
        ("ji", [(2, 3)]),
        ("ij,jk", [(2, 3), (3, 4)]),
        ("...ij,jk->...ik", [(5, 2, 3), (3, 4)]),
        ("...i,...i", [(5, 2, 3), (2, 3)]),
        ("...i->i...", [(5, 2, 3)]),
        ("..., ...", [(), (2, 3)]),
    ],
)
def test_einsum_by_every_rule_of_numpy(rule, shapes):
    xs = [numbers(shape, i) for i, shape in enumerate(shapes)]
    np.testing.assert_allclose(p.einsum(*xs, rule=rule), np.einsum(rule, *xs))
    ad.check_derivatives(lambda *xs: p.square(p.einsum(*xs, rule=rule)), *xs, tolerance=1e-4)


@pytest.mark.parametrize(
    "shapes",
    [((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((5, 2, 3), (3,)), ((3,), (5, 3, 2)), ((0,), (0,)), ((3,), (3, 0))],
)
def test_matmul_of_vectors(shapes):
    a, b = (numbers(shape, i) for i, shape in enumerate(shapes))
    np.testing.assert_allclose((ad.Tensor(a) @ b).value, a @ b)
    ad.check_derivatives(lambda a, b: p.sin(a @ b), a, b)
    ad.check_derivatives(lambda a, b: ad.gradient(lambda x: p.sum_(p.sin(x @ b)))(a), a, b)
    np.testing.assert_allclose((ad.Tensor(a) @ b.tolist()).value, a @ b)
