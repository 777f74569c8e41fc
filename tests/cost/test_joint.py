"""Several targets with weights and masks: cost and derivatives as one formula over all examples, on any shards."""

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp import nn
from dbp.cost.joint import layer_weights
from dbp.cost.mini_batch_cost import MiniBatchCost
from dbp.cost.objective import Objective
from dbp.data import ArrayDataset
from dbp.nn import RandomKey
from dbp.parallel import Layout, OneProcess, Shards
from dbp.reading.loader import Loader
from dbp.reading.output_form import output_form
from tests.jobs import PROGRAMS, mpirun, slow
from tests.programs.several_targets import LOSS, MASK, META, ROWS, SERIES, TARGETS, WEIGHTS, model

RNG = np.random.default_rng(0)


class Problem:
    """The cost of all examples in some shards."""

    def __init__(self, shards, weights=WEIGHTS, loss=LOSS, dtype="float64"):
        data = ArrayDataset({"series": SERIES, "meta": META}, TARGETS, weights, mask={"series": MASK})
        inputs = {"series": SERIES[:2], "meta": META[:2]}
        initial = nn.initial_parameters(model, inputs, 1, dtype, {"series": MASK[:2]})
        form = output_form(nn.as_loss(loss), initial, data.read(slice(0, 1)))
        self.layout, parts = Layout.of(initial.parameters), Shards(shards)
        self.objective = Objective(model, form.loss, self.layout, OneProcess(), parts, np.dtype(dtype))
        whole = next(Loader(data, form, np.dtype(dtype), Shards(1), chunk_rows=ROWS).chunks(0))
        rows = [parts.of_batch(ROWS, number) for number in range(shards)]
        self.batch = [whole.rows(slice(r.start, r.stop))._replace(number=n) for n, r in enumerate(rows)]
        self.cost = MiniBatchCost(self.objective, self.batch, 0)
        self.w = self.layout.flatten(initial.parameters, dtype)

    def outputs(self, flat):
        """Return the outputs of all targets side by side, of all examples at once."""
        ends = np.cumsum([0, *(np.prod(shape, dtype=int) for shape in self.layout.shapes.values())])
        named = zip(self.layout.shapes.items(), ends, ends[1:], strict=False)
        parameters = {name: ad.reshape(flat[a:b], shape=shape) for (name, shape), a, b in named}
        filled = np.where(MASK[..., None], SERIES, 0)
        scope = nn.use(parameters, {}, RandomKey(0, 0, 0), {"series": MASK})
        found = model(scope, {"series": filled, "meta": META})
        return ad.concatenate(*(ad.reshape(found[name], shape=(-1,)) for name in TARGETS))

    @staticmethod
    def of_outputs(flat, weights=WEIGHTS):
        """Return the cost from the outputs: a weighted mean of the losses of each target, times its weight."""
        positions, label, energy = flat[: ROWS * 12], flat[ROWS * 12 : ROWS * 15], flat[ROWS * 15 :]
        by_label, by_energy = weights.get("label", np.ones(ROWS)), weights.get("energy", np.ones(ROWS))
        squares = ad.square(
            ad.reshape(positions, shape=(ROWS, 6, 2)) - np.where(MASK[..., None], TARGETS["positions"], 0)
        )
        of_positions = ad.mean(squares, axis=2) * MASK.astype(float)
        logits = ad.reshape(label, shape=(ROWS, 3))
        of_label = ad.logsumexp(logits, axis=1) - ad.sum_(logits * np.eye(3)[TARGETS["label"]], axis=1)
        size = ad.abs_(energy - TARGETS["energy"])
        d = ad.clip(size, low=0.0, high=1.0)
        of_energy = d * (size - 0.5 * d)
        parts = (of_positions, MASK), (of_label, by_label), (of_energy, by_energy)
        costs = [ad.sum_(losses * weight.astype(float)) / weight.sum() for losses, weight in parts]
        return costs[0] + costs[1] + 0.3 * costs[2]


@pytest.mark.parametrize("shards", [1, 4, 5, 13])
def test_cost_gradient_and_products_are_those_of_one_formula(shards):
    problem = Problem(shards)
    w, v = problem.w, RNG.standard_normal(problem.w.size)
    whole = lambda flat: problem.of_outputs(problem.outputs(flat))  # noqa: E731
    found = problem.cost.value_and_gradient(w)
    gradient = ad.linearize(ad.gradient(whole), w)
    np.testing.assert_allclose(found.cost, whole(w), rtol=1e-12)
    np.testing.assert_allclose(found.gradient, gradient.value, rtol=1e-9, atol=1e-12)
    assert problem.cost.value(w) == found.cost
    curvature = problem.cost.curvature(w)
    np.testing.assert_allclose(curvature.gradient(), gradient.value, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(curvature.hessian_product(v), gradient.push(v), rtol=1e-9, atol=1e-12)
    outputs = ad.linearize(problem.outputs, w)
    slope = ad.linearize(ad.gradient(problem.of_outputs), outputs.value)
    product = outputs.pull(slope.push(outputs.push(v)))
    np.testing.assert_allclose(curvature.gauss_newton_product(v), product, rtol=1e-9, atol=1e-12)
    matrix = problem.cost.curvature(w).gauss_newton_matrix()
    np.testing.assert_allclose(matrix @ v, product, rtol=1e-9, atol=1e-12)


def test_the_parts_of_the_cost_are_among_the_metrics():
    problem = Problem(4)
    totals = problem.cost.value_and_gradient(problem.w).totals
    values = totals.values(problem.objective.metrics)
    assert list(values) == ["cost", "cost_positions", "cost_label", "cost_energy"]
    parts = values["cost_positions"], values["cost_label"], values["cost_energy"]
    np.testing.assert_allclose(values["cost"], parts[0] + parts[1] + 0.3 * parts[2], rtol=1e-14)
    twice = totals + totals
    np.testing.assert_allclose(twice.cost, totals.cost, rtol=1e-14)


def test_a_target_without_any_weight_costs_nothing_and_has_no_gradient():
    problem = Problem(3, {**WEIGHTS, "energy": np.zeros(ROWS)})
    found = problem.cost.value_and_gradient(problem.w)
    assert found.totals.values(problem.objective.metrics)["cost_energy"] == 0
    gradient = problem.layout.views(found.gradient)
    assert not gradient["of energy/weight"].any()
    assert gradient["of label/weight"].any()
    nothing = [s._replace(example_weights={n: 0 * w for n, w in s.example_weights.items()}) for s in problem.batch]
    empty = MiniBatchCost(problem.objective, nothing, 0)
    assert empty.value_and_gradient(problem.w).cost == 0
    assert not empty.value_and_gradient(problem.w).gradient.any()
    assert not empty.curvature(problem.w).hessian_product(problem.w).any()


def test_part_of_a_batch_has_the_mean_of_its_own_weights():
    problem = Problem(1)
    half = problem.batch[0].rows(slice(0, 6))
    found = problem.cost.curvature(problem.w, part=0.5).gradient().copy()
    alone = MiniBatchCost(problem.objective, [half], 0).value_and_gradient(problem.w).gradient
    np.testing.assert_allclose(found, alone, rtol=1e-9, atol=1e-12)


def test_layers_see_which_examples_count():
    shard = Problem(1).batch[0]
    assert layer_weights(shard).tolist() == [*[1.0] * 7, 1.0, *[1.0] * 3]  # the positions of the eighth one count
    named = shard._replace(targets={n: shard.targets[n] for n in ("label", "energy")})
    weights = {n: shard.example_weights[n] for n in ("label", "energy")}
    assert layer_weights(named._replace(example_weights=weights)).tolist() == [*[1.0] * 7, 0.0, *[1.0] * 3]
    assert layer_weights(named._replace(example_weights={"label": weights["label"]})) is None


@pytest.mark.parametrize(("ranks", "sizes"), [(2, ""), *slow((3, ""))])
def test_ranks_and_nodes_give_the_same_bits(ranks, sizes, one_rank):
    outcome = mpirun(ranks, PROGRAMS / "several_targets.py", env={"DBP_NODE_SIZES": sizes})
    assert outcome.code == 0, outcome.text
    assert outcome.out == one_rank


@pytest.fixture(scope="module")
def one_rank():
    outcome = mpirun(1, PROGRAMS / "several_targets.py")
    assert outcome.code == 0, outcome.text
    return outcome.out
