"""Muon: orthogonalized updates, and the parameters that it takes as matrices."""

import numpy as np
import pytest

from dbp.errors import UserError
from dbp.optim import Cosine, Muon
from dbp.optim.muon import orthogonalize
from tests.optim.functions import quadratic, steps
from tests.optim.noisy_objective import SHAPES


@pytest.mark.parametrize("shape", [(6, 6), (3, 8), (8, 3), (1, 5)])
def test_orthogonalize(shape):
    x = np.random.default_rng(0).standard_normal(shape)
    s = np.linalg.svd(orthogonalize(x), compute_uv=False)
    assert ((s > 0.6) & (s < 1.25)).all()
    assert (orthogonalize(np.zeros(shape)) == 0).all()


def test_which_parameters_are_matrices():
    def names(method, shapes=SHAPES):
        groups = [setting.group for setting in method.settings(shapes)]
        return [name for name, group in zip(shapes, groups, strict=True) if group]

    assert names(Muon()) == ["second/weight", "kernel"]
    assert names(Muon(matrices=("first/*", "kern*"))) == ["first/weight", "kernel"]
    assert names(Muon(), {"a": (2, 3), "b": (3, 3), "c": (3, 2)}) == ["b"]
    assert names(Muon(), {"a": (2, 3)}) == []
    with pytest.raises(UserError, match=r"matrices must name parameters of two or more axes .* 'first/bias'; the near"):
        Muon(matrices=("first/bias",)).check(SHAPES)


def test_a_known_minimum_in_matrices():
    """Muon descends into a bowl of two matrices and a bias."""
    shapes = {"a/weight": (3, 5), "b/weight": (4, 2), "b/bias": (2,)}
    function, method = quadratic(25, 10.0), Muon(0.1, adamw_learning_rate=0.1, matrices=("*",))
    w, _, _ = steps(method, function, function.start, 2000, Cosine(), shapes)
    np.testing.assert_allclose(w, function.minimum, atol=0.02)
