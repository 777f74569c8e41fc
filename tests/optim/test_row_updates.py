"""Updates of the rows of sparse parameters: as PyTorch's optimizers for sparse gradients, and other rows stay."""

import dataclasses

import numpy as np
import pytest

from dbp import nn
from dbp.errors import UserError
from dbp.optim import LAMB, LARS, LBFGS, SGD, Adagrad, Adam, AdamW, Lion, Muon, NAdam, Newton, RMSprop, State
from tests.cost.test_row_gradients import X, Y, cost_of

STEPS = 7
SPARSE, DENSE = (nn.Sequential(nn.Embedding(9, 4, sparse=s), nn.Flatten(), nn.Dense(3)) for s in (True, False))
TABLE = "embedding_1/weight"


def trained(method, model=SPARSE, chosen=None, dtype="float64", by_rows=False):
    """Return the weights by name after some steps, and the vectors of the table in the optimizer's state.

    Args:
        method: the optimizer.
        model: whose weights they are.
        chosen: the examples of each step; all by default.
        dtype: of the weights.
        by_rows: whether the gradient of the table is computed by rows if it is not sparse.
    """
    cost, weights = cost_of(model, shards=3, dtype=dtype, by_rows=by_rows)
    state = State.of(method, lambda count: np.zeros((count, len(weights)), weights.dtype))
    layout = cost.objective.layout
    for step in range(1, STEPS + 1):
        batch = cost.batch
        if chosen is not None:
            batch = [batch[n] if n == chosen(step) else batch[n].rows(slice(0, 0)) for n in range(3)]
        now = dataclasses.replace(cost, batch=batch, step=step)
        assert method.step(now, weights, state, step, 1.0).done
    views = {name: dict(layout.views(vector))[TABLE] for name, vector in state.vectors.items()}
    return dict(layout.views(weights)), views


def torch_trained(kind, **options):
    """Return the weights by name after the same steps of PyTorch, with sparse gradients of the embedding."""
    torch = pytest.importorskip("torch", reason="torch is not installed, so there is nothing to compare with")
    with torch.sparse.check_sparse_tensor_invariants(enable=True):
        return steps_of_torch(torch, kind, options)


def steps_of_torch(torch, kind, options):
    cost, weights = cost_of(SPARSE)
    start = cost.objective.layout.views(weights)
    table = torch.nn.Embedding(9, 4, sparse=True, dtype=torch.float64)
    dense = torch.nn.Linear(24, 3, dtype=torch.float64)
    with torch.no_grad():
        table.weight.copy_(torch.tensor(start[TABLE]))
        dense.weight.copy_(torch.tensor(start["dense_1/weight"].T))
        dense.bias.copy_(torch.tensor(start["dense_1/bias"]))
    of_dense = {"SparseAdam": "Adam"}.get(kind, kind)
    optimizers = [
        getattr(torch.optim, kind)(table.parameters(), **options),
        getattr(torch.optim, of_dense)(dense.parameters(), **options),
    ]
    for step in range(1, STEPS + 1):
        rows = rows_of(step)
        outputs = dense(table(torch.tensor(X[rows])).reshape(len(X[rows]), -1))
        loss = torch.nn.functional.cross_entropy(outputs, torch.tensor(Y[rows]))
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
    return {
        TABLE: table.weight.detach().numpy(),
        "dense_1/weight": dense.weight.detach().numpy().T,
        "dense_1/bias": dense.bias.detach().numpy(),
    }


def rows_of(step):
    """Return the examples of a step: those of one of three shards."""
    n = step % 3
    return slice(len(X) * n // 3, len(X) * (n + 1) // 3)


@pytest.mark.parametrize(
    ("method", "kind", "options"),
    [  # SparseAdam adds epsilon before it corrects the bias, so epsilon is so small that it does not count
        (Adam(0.05, epsilon=1e-20), "SparseAdam", {"lr": 0.05, "eps": 1e-20}),
        (SGD(0.3), "SGD", {"lr": 0.3}),
        (Adagrad(0.1), "Adagrad", {"lr": 0.1}),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_as_pytorch(method, kind, options):
    expected = torch_trained(kind, **options)
    found, _ = trained(method, chosen=lambda step: step % 3)
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("method", [SGD(0.3, clip_norm=0.1), Adagrad(0.1, clip_value=0.01, layer_rates={TABLE: 0.5})])
def test_rows_without_a_gradient_stay_as_with_whole_gradients(method):
    """SGD and Adagrad change nothing where the gradient is zero: both forms agree."""
    found, expected = (trained(method, model, chosen=lambda step: step % 3)[0] for model in (SPARSE, DENSE))
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-12, atol=1e-14, err_msg=name)


METHODS = [SGD(0.1, 0.9, nesterov=True), RMSprop(0.01, momentum=0.5), Adam(), AdamW(), NAdam(), Lion()]


@pytest.mark.parametrize("method", [dataclasses.replace(m, weight_decay=0.1) for m in METHODS], ids=lambda m: m.kind)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_only_rows_with_a_gradient_and_their_state_change(method, dtype):
    cost, weights = cost_of(SPARSE, dtype=dtype)
    start = cost.objective.layout.views(weights)[TABLE]
    found, vectors = trained(method, chosen=lambda _: 0, dtype=dtype)
    touched = np.isin(np.arange(9), X[: len(X) // 3])
    assert touched.any()
    assert not touched.all()
    changed = (found[TABLE] != start).any(axis=1)
    np.testing.assert_array_equal(changed, touched)
    for vector in vectors.values():
        np.testing.assert_array_equal(vector.any(axis=1), touched)


def test_rows_in_every_step_change_as_with_whole_gradients():
    """With all entries in each mini-batch, Adam's lazy state is that of a whole table; entry 7 has none."""
    for method in (Adam(0.05), AdamW(0.05, clip_norm=0.2)):
        found, expected = (trained(method, model)[0][TABLE] for model in (SPARSE, DENSE))
        rows = np.unique(X)
        np.testing.assert_allclose(found[rows], expected[rows], rtol=1e-9, atol=1e-12)


OPTIONS = {"weight_decay": 0.1, "clip_norm": 0.3, "clip_value": 0.1, "average": 0.5, "layer_rates": {TABLE: 0.5}}


@pytest.mark.parametrize("method", [dataclasses.replace(m, **OPTIONS) for m in METHODS], ids=lambda m: m.kind)
def test_a_whole_table_changes_as_with_a_gradient_of_all_of_it(method):
    given = {"model": DENSE, "chosen": lambda step: step % 3}
    (found, vectors), (expected, of_state) = (trained(method, **given, by_rows=by_rows) for by_rows in (True, False))
    assert found.keys() == expected.keys()
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-12, atol=1e-14, err_msg=name)
    for name, value in vectors.items():
        np.testing.assert_allclose(value, of_state[name], rtol=1e-12, atol=1e-14, err_msg=name)


@pytest.mark.parametrize("method", [LARS(0.1), LAMB(), Muon(), LBFGS(), Newton()], ids=lambda m: m.kind)
def test_methods_that_need_all_of_a_parameter_refuse(method):
    message = f"'e/weight' is sparse, but optimizer '{method.kind}' needs the gradient by all of a parameter"
    shapes = {"dense/weight": (3, 2), "e/weight": (9, 4)}
    with pytest.raises(UserError, match=message):
        method.check(shapes, ["e/weight"])
    method.check(shapes)


def test_averages_need_all_rows():
    with pytest.raises(
        UserError, match=r"'e/weight' is sparse, but optimizer\.average changes the averages of all rows"
    ):
        Adam(average=0.9).check({"e/weight": (9, 4)}, ["e/weight"])
