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


def test_position_adds_a_row_a_position():
    x = inputs(3, 4, 2)
    parameters, y = run(nn.Position(), x)
    np.testing.assert_array_equal(y, x + parameters["weight"])


def attended(x, p, heads, causal, memory=None):
    """Attend head by head and position by position."""
    memory = x if memory is None else memory
    of = {"query": x, "key": memory, "value": memory}
    q, k, v = (of[name] @ p[f"{name}/weight"] + p.get(f"{name}/bias", 0) for name in of)
    n, length, channels = x.shape
    width, gathered = channels // heads, np.zeros_like(x)
    for example, head, position in itertools.product(range(n), range(heads), range(length)):
        own = slice(head * width, (head + 1) * width)
        seen = slice(0, position + 1 if causal else memory.shape[1])
        match = np.exp(k[example, seen, own] @ q[example, position, own] / np.sqrt(width))
        gathered[example, position, own] = (match / match.sum()) @ v[example, seen, own]
    return gathered @ p["output/weight"] + p.get("output/bias", 0)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("heads", "bias"), [(1, True), (2, False), (6, True)])
def test_attention_by_a_plain_loop(heads, bias, causal):
    x = inputs(2, 5, 6)
    parameters, y = run(nn.Attention(heads, causal, bias=bias), x)
    np.testing.assert_allclose(y, attended(x, parameters, heads, causal), rtol=1e-9)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_to_a_memory_by_a_plain_loop(causal):
    x, memory = inputs(2, 5, 6), inputs(2, 7, 3, seed=1)
    layer = nn.Attention(2, causal)
    parameters, y = run(lambda scope, x: layer(scope, (x, memory)), x)
    assert parameters["key/weight"].shape == (3, 6)
    np.testing.assert_allclose(y, attended(x, parameters, 2, causal, memory), rtol=1e-9)


LENGTHS = {"queries": np.array([4, 2, 5]), "memory": np.array([1, 6, 3])}


def masked_pair(fill):
    """Return queries and memory by name, with a fill behind the length of each example, and their masks."""
    values = {"queries": inputs(3, 5, 4), "memory": inputs(3, 6, 3, seed=1)}
    masks = {name: np.arange(x.shape[1]) < LENGTHS[name][:, None] for name, x in values.items()}
    return {name: np.where(masks[name][:, :, None], x, fill) for name, x in values.items()}, masks


@pytest.mark.parametrize("masked", [("queries", "memory"), ("queries",), ("memory",)])
def test_masked_positions_of_queries_and_memory_have_no_influence(masked):
    model = nn.Graph(nn.Named(nn.Attention(2), from_=("queries", "memory")), nn.Dense(2))
    x, masks = masked_pair(7.0)
    parameters = nn.initial_parameters(model, x, 0, "float64", mask={name: masks[name] for name in masked}).parameters
    scope = nn.use(parameters, mask={name: masks[name] for name in masked})
    got = model(scope, x)
    for example in range(3):
        alone = {name: array[None, example] for name, array in x.items()}
        for name in masked:
            alone[name] = alone[name][:, : LENGTHS[name][example]]
        expected = model(nn.use(parameters), alone)[0]
        np.testing.assert_allclose(got[example, : len(expected)], expected, rtol=1e-12, atol=1e-14)
    after = scope.mask_of_outputs(model)
    assert (after is None) == ("queries" not in masked)
    again, _ = masked_pair(np.nan)
    there = masks["queries"] if "queries" in masked else np.ones((3, 5), bool)
    only = {name: again[name] if name in masked else x[name] for name in x}
    refilled = model(nn.use(parameters, mask={name: masks[name] for name in masked}), only)
    np.testing.assert_array_equal(refilled[there], got[there])


def test_a_key_mask_by_hand():
    x, masks = masked_pair(0.0)
    layer = nn.Attention(2)
    parameters, _ = run(lambda scope, q: layer(scope, (q, x["memory"])), x["queries"])

    def model(scope, memory, mask):
        return layer(nn.Scope(scope._call, mask=mask), (x["queries"], memory))

    scope = nn.use(parameters)
    got = model(scope, x["memory"], (None, masks["memory"]))
    np.testing.assert_array_equal(model(scope, masked_pair(9.0)[0]["memory"], (None, masks["memory"])), got)
    with pytest.raises(UserError, match=r"the mask does not say of which it is; call it in scope.inside\(name, mask="):
        model(scope, x["memory"], masks["memory"])
    with pytest.raises(UserError, match=r"takes one value, or two, the queries and the memory .* but gets 3"):
        layer(scope, (x["queries"],) * 3)


def test_causal_attention_sees_nothing_later():
    x = inputs(2, 6, 4)
    parameters, y = run(nn.Attention(2, causal=True), x)
    changed = x.copy()
    changed[:, 4:] += 1e3
    again = nn.Attention(2, causal=True)(nn.use(parameters), changed)
    np.testing.assert_array_equal(again[:, :4], y[:, :4])
    assert np.abs(again[:, 4:] - y[:, 4:]).min() > 1e-3


def test_attention_turns_with_a_permutation_of_positions():
    x, order = inputs(2, 6, 4), np.random.default_rng(4).permutation(6)
    layer = nn.Attention(2)
    parameters, y = run(layer, x)
    np.testing.assert_allclose(layer(nn.use(parameters), x[:, order]), y[:, order], rtol=1e-10)
