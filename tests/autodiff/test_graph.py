"""Passes over a recorded graph."""

import weakref

import numpy as np
import pytest

import dbp.autodiff as ad

RNG = np.random.default_rng(0)
X, W1, W2 = RNG.standard_normal((5, 4)), RNG.standard_normal((4, 3)), RNG.standard_normal((3, 2))


def passed_back(consume):
    """Return the gradients by two weights, the end of the graph, and which were ready while the middle lived."""
    leaves = [ad.Tensor(W1), ad.Tensor(W2)]
    hidden = ad.tanh(X @ leaves[0])
    end = ad.sum_(hidden @ leaves[1] + ad.sum_(hidden))
    middle = weakref.ref(hidden.value)
    del hidden
    into, lived = [np.empty_like(W1), np.empty_like(W2)], {}
    ad.pullback(
        end,
        np.ones(()),
        leaves,
        into=into,
        on_ready=lambda number, start: lived.setdefault(number, middle() is not None),
        consume=consume,
    )
    return into, end, lived


def test_a_pass_that_consumes_the_graph_has_the_same_gradients_and_frees_what_only_it_needs():
    kept, _, lived = passed_back(consume=False)
    found, end, lived_then = passed_back(consume=True)
    assert [one.tobytes() for one in found] == [one.tobytes() for one in kept]
    assert lived == {1: True, 0: True}
    assert lived_then == {1: True, 0: False}
    assert end.inputs == ()
    assert end.value == pytest.approx(np.sum(np.tanh(X @ W1) @ W2 + np.tanh(X @ W1).sum()))


def test_a_graph_that_is_not_consumed_can_be_passed_over_again():
    _, end, _ = passed_back(consume=False)
    leaf = end.inputs[0].inputs[0].inputs[1]
    (again,) = ad.pullback(end, np.ones(()), [leaf])
    np.testing.assert_allclose(again, np.tanh(X @ W1).T @ np.ones((5, 2)))


@pytest.mark.parametrize("record", [False, True])
@pytest.mark.parametrize(
    "block",
    [
        lambda x: ad.dense_block(x, np.ones((6, 2)), None, activation="tanh"),
        lambda x: ad.self_attention_block(x, heads=1),
    ],
    ids=["dense", "self-attention"],
)
def test_a_block_none_of_whose_inputs_moves_has_no_tangent(block, record):
    x = ad.Tensor(np.random.default_rng(0).standard_normal((2, 3, 6)))
    assert ad.pushforward([block(np.sign(x))], [(x, np.ones(x.shape))], record=record) == [None]
