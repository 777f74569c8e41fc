"""Recomputation in the backward pass: the same derivatives, and one node in the graph."""

import numpy as np
import pytest

import dbp.autodiff as ad

RNG = np.random.default_rng(0)
A = RNG.standard_normal((4, 4))
A = A + A.T
X, V = RNG.standard_normal(4), RNG.standard_normal(4)


def block(x, w):
    return ad.tanh(x @ w) * ad.sin(x @ w)


def test_recompute_changes_no_derivative():
    x, w = RNG.standard_normal((3, 4)), A.copy()
    plain = lambda x, w: ad.sum_(block(block(x, w), w))  # noqa: E731
    light = lambda x, w: ad.sum_(ad.recompute(block)(ad.recompute(block)(x, w), w))  # noqa: E731
    for a, b in zip(ad.gradient(plain, (0, 1))(x, w), ad.gradient(light, (0, 1))(x, w), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    tangents = (RNG.standard_normal(x.shape), RNG.standard_normal(w.shape))
    assert ad.jvp(plain, (x, w), tangents)[1] == pytest.approx(ad.jvp(light, (x, w), tangents)[1])
    for a, b in zip(
        ad.hessian_product(plain, (x, w), tangents), ad.hessian_product(light, (x, w), tangents), strict=True
    ):
        np.testing.assert_allclose(a, b)
    ad.check_derivatives(ad.recompute(block), x, w)


def test_recompute_of_trees_and_by_name():
    x, point = RNG.standard_normal((3, 4)), {"w": A.copy(), "rest": [V.copy(), 2.0]}

    def layer(parameters, x, scale=1.0, power=2):
        return ad.tanh(x @ parameters["w"] + parameters["rest"][0]) ** power * parameters["rest"][1] * scale

    def whole(function):
        return lambda parameters, x, s: ad.sum_(function(parameters, x, scale=s, power=3))

    plain, light = (ad.gradient(whole(f), (0, 1, 2))(point, x, 0.5) for f in (layer, ad.recompute(layer)))
    for a, b in zip(*map(ad.transforms.tree_leaves, (plain, light)), strict=True):
        np.testing.assert_allclose(a, b)
    tangents = (point, x, 1.0)
    for a, b in zip(
        *(
            ad.transforms.tree_leaves(ad.hessian_product(whole(f), tangents, tangents))
            for f in (layer, ad.recompute(layer))
        ),
        strict=True,
    ):
        np.testing.assert_allclose(a, b)
    uneven = lambda x, pair: ad.tanh(x @ pair[0]) + pair[1]  # noqa: E731
    ad.check_derivatives(lambda x: ad.recompute(uneven)(x, [A, V]), x)
    assert type(ad.recompute(layer)(point, x)) is np.ndarray
    leaf = ad.Tensor(A)
    assert ad.recompute(layer)({"w": leaf, "rest": [V, 2.0]}, x).inputs[0] is leaf
    with pytest.raises(TypeError, match=r"recompute\(pair\) must return one array, not a tuple"):
        ad.recompute(pair)(leaf)


def pair(x):
    return x, x


def test_recompute_keeps_one_node():
    x = ad.Tensor(X.reshape(1, 4))
    y = ad.recompute(block)(x, A)
    assert y.inputs == (x, A) or (y.inputs[0] is x and y.inputs[1] is A)


def test_recompute_takes_all_it_depends_on_as_arguments():
    w = ad.Tensor(A)
    with pytest.raises(TypeError, match="uses tensors that are not among its arguments"):
        ad.recompute(lambda x: x @ w)(ad.Tensor(X.reshape(1, 4)))
