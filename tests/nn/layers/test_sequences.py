"""Layers of sequences: embeddings, positions and attention, against plain loops."""

import itertools

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp import nn
from dbp.errors import UserError
from tests.nn.models import inputs, run


def test_embedding_gives_rows():
    numbers = np.array([[0, 3, 3], [2, 0, 1]])
    parameters, y = run(nn.Embedding(4, 5), numbers)
    np.testing.assert_array_equal(y, parameters["weight"][numbers])
    np.testing.assert_array_equal(nn.Embedding(4, 5)(nn.use(parameters), numbers.astype(np.float32)), y)


def test_gradients_of_repeated_entries_add_up():
    numbers, g = np.array([[0, 3, 3], [2, 0, 3]]), inputs(2, 3, 5)
    table = ad.Tensor(np.zeros((4, 5)))
    y = nn.Embedding(4, 5)(nn.use({"weight": table}), numbers)
    (gradient,) = ad.pullback(y, g, [table])
    expected = [g[0, 0] + g[1, 1], 0 * g[0, 0], g[1, 0], g[0, 1] + g[0, 2] + g[1, 2]]
    np.testing.assert_allclose(gradient, expected)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([[0, 4]], "whole numbers from 0 to 3, but its inputs contain 4"),
        ([[0, -1]], "from 0 to 3, but its inputs contain -1"),
        ([[0.0, 0.5]], "from 0 to 3, but its inputs contain 0.5; are the inputs scaled"),
        ([[np.nan, 1.0]], "contain nan"),
        ([[1e30, 1.0]], r"contain 1e\+30"),
    ],
)
def test_embedding_names_entries_that_there_are_not(numbers, message):
    with pytest.raises(UserError, match=message):
        nn.Embedding(4, 5)(nn.use({"weight": np.zeros((4, 5))}), np.array(numbers))


def test_embedding_refuses_what_its_type_cannot_count():
    with pytest.raises(UserError, match="entries must be at most 16777216 in float32"):
        run(nn.Embedding(2**24 + 1, 1, "zeros"), np.zeros((1, 1), np.float32))
    with pytest.raises(
        UserError, match="by which nothing can be differentiated, but a layer before it made floats; put"
    ):
        nn.Embedding(4, 5)(nn.use({"weight": np.zeros((4, 5))}), ad.Tensor(np.zeros((1, 1))))


def test_position_adds_a_row_a_place():
    x = inputs(3, 4, 2)
    parameters, y = run(nn.Position(), x)
    np.testing.assert_array_equal(y, x + parameters["weight"])


def attended(x, p, heads, causal):
    """Attend head by head and place by place."""
    q, k, v = (x @ p[f"{name}/weight"] + p.get(f"{name}/bias", 0) for name in ("query", "key", "value"))
    n, length, channels = x.shape
    width, gathered = channels // heads, np.zeros_like(x)
    for example, head, place in itertools.product(range(n), range(heads), range(length)):
        own = slice(head * width, (head + 1) * width)
        seen = slice(0, place + 1 if causal else length)
        match = np.exp(k[example, seen, own] @ q[example, place, own] / np.sqrt(width))
        gathered[example, place, own] = (match / match.sum()) @ v[example, seen, own]
    return gathered @ p["output/weight"] + p.get("output/bias", 0)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("heads", "bias"), [(1, True), (2, False), (6, True)])
def test_attention_by_a_plain_loop(heads, bias, causal):
    x = inputs(2, 5, 6)
    parameters, y = run(nn.Attention(heads, causal, bias=bias), x)
    np.testing.assert_allclose(y, attended(x, parameters, heads, causal), rtol=1e-9)


def test_causal_attention_sees_nothing_later():
    x = inputs(2, 6, 4)
    parameters, y = run(nn.Attention(2, causal=True), x)
    changed = x.copy()
    changed[:, 4:] += 1e3
    again = nn.Attention(2, causal=True)(nn.use(parameters), changed)
    np.testing.assert_array_equal(again[:, :4], y[:, :4])
    assert np.abs(again[:, 4:] - y[:, 4:]).min() > 1e-3


def test_attention_turns_with_a_permutation_of_places():
    x, order = inputs(2, 6, 4), np.random.default_rng(4).permutation(6)
    layer = nn.Attention(2)
    parameters, y = run(layer, x)
    np.testing.assert_allclose(layer(nn.use(parameters), x[:, order]), y[:, order], rtol=1e-10)
