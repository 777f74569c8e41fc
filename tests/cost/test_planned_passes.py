"""Planned passes: the bits of ordinary ones in training; passes that differ from step to step are not planned."""

import dataclasses

import numpy as np
import pytest

from dbp import nn
from dbp.autodiff import plan, pullback
from dbp.cost import mini_batch_cost, planned_passes
from dbp.cost.mini_batch_cost import MiniBatchCost
from dbp.cost.planned_passes import MOST_PASSES, PlannedPasses, is_fixed
from dbp.errors import UserError
from tests.jobs import PROGRAMS, mpirun, slow
from tests.nn.models import cost_of, in_shards

RNG = np.random.default_rng(0)
STEPS = 6
MODELS = {
    "dense": [nn.Dense(7, "relu"), nn.Dense(5, "tanh"), nn.Dense(3)],
    "shortcut": [nn.Residual([nn.Dense(6, "sigmoid")]), nn.Flatten(), nn.Dense(3)],
    "images": [nn.Reshape((3, 2, 1)), nn.Conv2d(4, 2, "relu", padding=1), nn.MaxPool2d(2), nn.Flatten(), nn.Dense(3)],
    "normalized": [nn.Dense(4), nn.LayerNorm(), nn.Activation("gelu"), nn.Dense(3)],
    "averaged": [nn.Reshape((3, 2, 1)), nn.Conv2d(4, 2), nn.AveragePool2d((2, 1)), nn.Flatten(), nn.Dense(3)],
    "random": [nn.Dense(5), nn.Dropout(0.5), nn.Dense(5), nn.GaussianNoise(0.1), nn.Dropout(0.2), nn.Dense(3)],
    "moments": [nn.BatchNorm(), nn.Dense(5), nn.BatchNorm(), nn.Activation("relu"), nn.Dense(3)],
}


def trained(model, loss, sizes, planned, weights=False, shards=1, infinite=False):
    """Return the weights and costs of steps on mini-batches of these sizes, and the objective."""
    rng = np.random.default_rng(1)
    is_class = loss.targets_are == "classes"
    x, y = rng.standard_normal((max(sizes), 6)), rng.integers(0, 3, max(sizes))
    cost, w, _ = cost_of(nn.as_model(model), loss, x, y if is_class else np.tanh(x[:, :3]), None, shards)
    objective, costs = cost.objective, []
    if not planned:
        objective.planned = PlannedPasses(False)
    for step, size in enumerate(sizes):
        x, y = rng.standard_normal((size, 6)), rng.integers(0, 3, size)
        x[0, 0] = np.inf if infinite and step % 2 else x[0, 0]
        batch = in_shards(x, y if is_class else np.tanh(x[:, :3]), rng.random(size) if weights else None, shards)
        found = MiniBatchCost(objective, batch, step).value_and_gradient(w)
        if found.finite:
            w -= 0.1 * found.gradient
        costs.append((found.cost, found.finite, *found.totals.metrics, *found.moments))
    return w, costs, objective


@pytest.mark.parametrize("loss", [nn.CrossEntropy(), nn.MeanSquaredError()], ids=lambda loss: loss.kind)
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_planned_steps_have_the_bits_of_ordinary_ones(model, loss):
    with_plans, costs, objective = trained(model, loss, [8] * STEPS, True)
    without, same_costs, _ = trained(model, loss, [8] * STEPS, False)
    assert [form.is_trusted for form in objective.planned._forms] == [True]
    assert with_plans.tobytes() == without.tobytes()
    assert costs == same_costs


def test_the_form_of_a_pass_is_looked_up_once(monkeypatch):
    """Also in the ordinary passes that are planned, or tried beside a plan."""
    looked_up, key_of = [], planned_passes.key_of
    monkeypatch.setattr(planned_passes, "key_of", lambda shard: looked_up.append(shard) or key_of(shard))
    trained(MODELS["dense"], nn.CrossEntropy(), [8] * STEPS, True)
    assert len(looked_up) == STEPS


@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ([8, 8, 8, 5] * 4, {}),
        ([8] * STEPS, {"weights": True}),
        ([8] * STEPS, {"shards": 3}),
        ([2] * STEPS, {"shards": 3}),
        ([8] * 8, {"infinite": True}),
    ],
    ids=["short batches", "example weights", "shards", "empty shards", "not finite"],
)
def test_any_examples_of_a_step_have_the_bits_of_ordinary_passes(sizes, options):
    model, loss = MODELS["dense"], nn.CrossEntropy()
    with np.errstate(invalid="ignore"):
        with_plans, costs, objective = trained(model, loss, sizes, True, **options)
        without, same_costs, _ = trained(model, loss, sizes, False, **options)
    assert all(form.is_trusted for form in objective.planned._forms)
    assert with_plans.tobytes() == without.tobytes()
    assert repr(costs) == repr(same_costs)  # as a cost that is NaN is not equal to itself


@pytest.mark.parametrize(
    "model",
    [
        [nn.Reshape((3, 2, 1)), nn.RandomFlip(), nn.Flatten(), nn.Dense(3)],
        [nn.Dense(5), nn.BatchNorm(statistics="batch"), nn.Dense(3)],
        [nn.Mixup(1.0), nn.Dense(3)],
        [nn.Recompute([nn.Dense(3)])],
        lambda scope, x: x @ scope.parameter("weight", (6, 3)),
    ],
    ids=["flipped", "moments of all shards", "mixed", "computed again", "a function"],
)
def test_passes_that_may_differ_are_not_planned(model):
    _, _, objective = trained(model, nn.CrossEntropy(), [8] * STEPS, True)
    assert not any(form.is_trusted for form in objective.planned._forms)


@pytest.mark.parametrize("first", [0, 1])
def test_moments_with_example_weights_are_not_planned(first):
    """Weights that are all 1, or all 0, make simpler passes, which are wrong for the weights of a later step."""
    found = []
    for is_planned in (True, False):
        rng = np.random.default_rng(1)
        x, y = rng.standard_normal((STEPS, 15, 6)), rng.integers(0, 3, (STEPS, 15))
        cost, w, _ = cost_of(nn.as_model(MODELS["moments"]), nn.CrossEntropy(), x[0], y[0], None, 2)
        cost.objective.planned.are_possible = is_planned
        for step in range(STEPS):
            weights = rng.random(15) if step >= STEPS - 2 else np.repeat([first, 1.0], [8, 7])
            batch = in_shards(x[step], y[step], weights, 2)
            w -= 0.1 * MiniBatchCost(cost.objective, batch, step).value_and_gradient(w).gradient
        assert not any(form.is_trusted for form in cost.objective.planned._forms)
        found.append(w.tobytes())
    assert found[0] == found[1]


def test_planned_entries_are_looked_up_and_checked():
    """An embedding finds the rows of the entries of each step, and refuses wrong ones in a planned pass too."""
    model, rng = nn.as_model([nn.Embedding(9, 4), nn.Flatten(), nn.Dense(3)]), np.random.default_rng(1)
    x, y = rng.integers(0, 9, (STEPS, 8, 5)), rng.integers(0, 3, (STEPS, 8))
    found = []
    for is_planned in (True, False):
        cost, w, _ = cost_of(model, nn.CrossEntropy(), x[0], y[0])
        cost.objective.planned.are_possible = is_planned
        for step in range(STEPS):
            batch = in_shards(x[step], y[step], None, 1)
            w -= 0.1 * MiniBatchCost(cost.objective, batch, step).value_and_gradient(w).gradient
        assert [form.is_trusted for form in cost.objective.planned._forms] == [True] * is_planned
        found.append(w.tobytes())
        with pytest.raises(UserError, match="contain 9"):
            MiniBatchCost(cost.objective, in_shards(np.full((8, 5), 9), y[0], None, 1), 7).value_and_gradient(w)
    assert found[0] == found[1]


@dataclasses.dataclass(frozen=True)
class OwnLayer(nn.Dense):
    """A layer of the user's, which may do anything."""


def test_functions_and_layers_of_users_are_not_fixed():
    assert is_fixed(nn.as_model(MODELS["shortcut"]))
    assert is_fixed(nn.CrossEntropy(0.1, {"0": 2.0}))
    assert not is_fixed(nn.as_loss(lambda outputs, targets: outputs - targets))
    assert not is_fixed(nn.Sequential(OwnLayer(3)))


def test_a_plan_that_does_not_agree_is_dropped(monkeypatch):
    """A block whose passes for plans are wrong costs nothing but a trial."""
    from dbp.autodiff import dense_block

    wrong = lambda inputs, options, output: plan(inputs, options, output)._replace(forward=lambda: output.fill(1))  # noqa: E731
    plan = dense_block._planned
    monkeypatch.setattr(dense_block, "_planned", wrong)
    with_plans, _, objective = trained(MODELS["dense"], nn.CrossEntropy(), [8] * STEPS, True)
    without, _, _ = trained(MODELS["dense"], nn.CrossEntropy(), [8] * STEPS, False)
    assert [form.is_refused for form in objective.planned._forms] == [True]
    assert with_plans.tobytes() == without.tobytes()


def test_few_forms_are_known_at_a_time():
    sizes = [*range(2, 2 + 2 * MOST_PASSES)] * 2
    _, _, objective = trained(MODELS["dense"], nn.CrossEntropy(), sizes, True)
    assert len(objective.planned._forms) == MOST_PASSES
    assert not any(form.planned for form in objective.planned._forms)


@pytest.mark.parametrize("ranks", [1, *slow(2, 3)])
def test_whole_runs_have_the_same_digests_with_and_without_plans(tmp_path, ranks):
    """Runs with frozen layers, schedules, weights, short batches, steps that are not finite, and a second start."""
    program = PROGRAMS / "planned_digests.py"
    with_plans = mpirun(ranks, program, tmp_path / "planned").out
    without = mpirun(1, program, tmp_path / "ordinary", "ordinary").out
    assert "planned passes: 0" not in with_plans
    assert digests(with_plans) == digests(without)
    assert len(digests(with_plans)) == 5


def digests(text):
    return [line for line in text.splitlines() if "digest" in line]


@pytest.fixture
def consumed(monkeypatch):
    """Record of each backward pass through a graph whether it gives that up."""
    consumed = []

    def noted(*arguments, consume, **options):
        consumed.append(consume)
        return pullback(*arguments, consume=consume, **options)

    monkeypatch.setattr(mini_batch_cost, "pullback", noted)
    return consumed


def test_ordinary_passes_give_up_their_graphs_but_for_those_that_are_planned(consumed):
    trained(MODELS["dense"], nn.CrossEntropy(), [8] * STEPS, True)
    assert consumed == [True, False, True]  # the first, the one that is planned, and the trial
    del consumed[:]
    trained([nn.Mixup(1.0), nn.Dense(3)], nn.CrossEntropy(), [8] * STEPS, True)
    assert consumed == [True] * STEPS


def test_large_graphs_are_given_up_in_each_pass(monkeypatch, consumed):
    """Check that a network with batch normalization takes no more memory in the pass that is not planned."""
    monkeypatch.setattr(plan, "MAX_BYTES", 100)
    _, _, objective = trained(MODELS["moments"], nn.CrossEntropy(), [8] * STEPS, True)
    assert consumed == [True] * STEPS
    assert [form.is_refused for form in objective.planned._forms] == [True]
