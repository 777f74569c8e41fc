"""Gradients by rows of sparse parameters: those of whole tables, wherever and however often rows are looked up."""

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp import nn
from dbp.cost.mini_batch_cost import MiniBatchCost
from dbp.cost.objective import Objective
from dbp.errors import UserError
from dbp.parallel import Layout, OneProcess, Shards
from dbp.reading.shard import Shard

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 9, (11, 6)), RNG.integers(0, 3, 11)
X[X == 7] = 1  # an entry that no example has
WEIGHTS = RNG.random(11)


def cost_of(model, shards=1, weights=None, mask=None, dtype="float64", by_rows=False):
    """Return the cost of all examples and the flat weights at the start.

    Args:
        model: of words.
        shards: of the examples.
        weights: of the examples.
        mask: of the positions of the inputs.
        dtype: of the weights.
        by_rows: whether the gradients of tables are computed by rows if they are not sparse.
    """
    initial = nn.initial_parameters(model, X, 0, dtype, mask)
    tables = [name for name, uses in initial.row_uses.items() if uses.sparse or by_rows]
    layout = Layout.with_tables(initial.shapes, tables, [name for name in tables if initial.row_uses[name].sparse])
    objective = Objective(model, nn.CrossEntropy(), layout, OneProcess(), Shards(shards), np.dtype(dtype))
    spans = [Shards(shards).of_batch(len(X), n) for n in range(shards)]

    def rows(array, span):
        return None if array is None else array[span.start : span.stop]

    batch = [Shard(n, *(rows(a, s) for a in (X, Y, weights)), mask=rows(mask, s)) for n, s in enumerate(spans)]
    return MiniBatchCost(objective, batch, 0), layout.flatten(initial.parameters, dtype)


def gradients(model, **options):
    """Return cost, gradients by name with tables whole, and the numbers of the rows that have one."""
    cost, weights = cost_of(model, **options)
    found = cost.value_and_gradient(weights)
    assert found.finite
    layout = cost.objective.layout
    named = dict(layout.dense.views(found.gradient))
    for rows in found.rows:
        named[rows.name] = np.zeros(layout.shapes[rows.name], weights.dtype)
        named[rows.name][rows.numbers] = rows.values
        assert rows.square == pytest.approx(np.sum(rows.values**2))
    return found.cost, named, [rows.numbers.tolist() for rows in found.rows]


def plain(sparse):
    return nn.Sequential(nn.Embedding(9, 4, sparse=sparse), nn.Flatten(), nn.Dense(3))


def with_everything(sparse):
    """Return a function with a table that is looked up twice, one within recompute, and dropout."""
    table, other = nn.Embedding(9, 4, sparse=sparse), nn.Embedding(9, 2, sparse=sparse)
    inner = nn.Recompute([other, nn.Dense(3, "tanh")])

    def model(scope, x):
        a, b = table(scope.inside("table"), x), table(scope.inside("table"), x[:, ::-1])
        c = inner(scope.inside("inner"), x)
        y = nn.Dropout(0.3)(scope.inside("dropout"), ad.concatenate(a * b, c, axis=2))
        return nn.Dense(3)(scope.inside("dense"), ad.mean(y, axis=1))

    return model


@pytest.mark.parametrize("model", [plain, with_everything])
@pytest.mark.parametrize("shards", [1, 3, 16])
@pytest.mark.parametrize("sparse", [True, False])
def test_gradients_are_those_of_whole_tables(model, shards, sparse):
    expected = gradients(model(sparse=False), shards=shards, weights=WEIGHTS)
    cost, found, rows = gradients(model(sparse), shards=shards, weights=WEIGHTS, by_rows=True)
    assert cost == expected[0]
    assert found.keys() == expected[1].keys()
    for name, gradient in found.items():
        np.testing.assert_allclose(gradient, expected[1][name], rtol=1e-12, atol=1e-15, err_msg=name)
    assert rows == [np.unique(X).tolist()] * len(rows)
    assert len(rows) == (1 if model is plain else 2)


def test_the_fill_of_masked_positions_is_no_entry():
    mask = RNG.random(X.shape) < 0.5
    mask[:, 0] = True
    model = nn.Sequential(nn.Embedding(9, 4, sparse=True), nn.GRU(3, sequences=False))
    cost, found, rows = gradients(model, mask=mask)
    dense = nn.Sequential(nn.Embedding(9, 4), nn.GRU(3, sequences=False))
    expected = gradients(dense, mask=mask)
    assert cost == expected[0]
    np.testing.assert_allclose(found["embedding_1/weight"], expected[1]["embedding_1/weight"], rtol=1e-12, atol=1e-15)
    assert rows == [np.unique(X[mask]).tolist()]


def test_an_evaluation_has_the_cost_of_the_step():
    cost, weights = cost_of(plain(sparse=True), shards=3)
    assert cost.value(weights) == cost.value_and_gradient(weights).cost


def test_no_weight_at_all_gives_no_gradient():
    cost, found, _ = gradients(plain(sparse=True), weights=np.zeros(11))
    assert cost == 0
    assert not any(gradient.any() for gradient in found.values())


def test_a_table_of_which_all_is_used_cannot_be_sparse():
    def tied(scope, x):
        y = nn.Embedding(9, 4, sparse=True)(scope.inside("words"), x)
        return ad.mean(y, axis=1) @ ad.transpose(scope.inside("words").parameter("weight", (9, 4)))

    with pytest.raises(UserError, match=r"'words/weight' is sparse, .* uses all of it too; leave sparse out"):
        nn.initial_parameters(tied, X, 0)
