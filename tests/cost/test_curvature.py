"""Second derivatives of a mini-batch's cost: those of the full cost for any shards, and the same bits on any ranks."""

import numpy as np
import pytest

import dbp.autodiff as ad
from dbp import nn
from dbp.cost.mini_batch_cost import MiniBatchCost
from dbp.cost.objective import Objective
from dbp.nn import RandomKey, as_weighted
from dbp.parallel import Arena, Layout, OneProcess, Shards
from dbp.random import generator
from dbp.reading.shard import Shard
from tests.jobs import PROGRAMS, mpirun, slow

RNG = np.random.default_rng(0)
X, CLASSES, NUMBERS = RNG.standard_normal((11, 6)), RNG.integers(0, 3, 11), RNG.standard_normal((11, 3))
WEIGHTS = RNG.random(11)
MASK = np.arange(11) % 3 > 0
POSITIONS = (RNG.random((11, 3)) > 0.3).astype(float)  # a weight for each output
NETWORK = nn.Sequential(nn.Dense(4, "tanh"), nn.Dense(3, "relu"), nn.Dense(3))
NOISY = nn.Sequential(nn.Dense(5, "sigmoid"), nn.Dropout(0.4), nn.Dense(3))
NORMAL = nn.Sequential(nn.Dense(4), nn.BatchNorm(), nn.Activation("tanh"), nn.Dense(3))

CASES = {
    "plain": (NETWORK, nn.CrossEntropy(), CLASSES, None),
    "weights": (NETWORK, nn.CrossEntropy(), CLASSES, WEIGHTS),
    "mask": (NETWORK, nn.BinaryCrossEntropy(), (NUMBERS > 0).astype(float), MASK.astype(float)),
    "positions": (NETWORK, nn.MeanSquaredError(), NUMBERS, POSITIONS),
    "dropout": (NOISY, nn.CrossEntropy(), CLASSES, WEIGHTS),
    "batch norm": (NORMAL, nn.MeanSquaredError(), NUMBERS, None),
}


class Problem:
    """The cost of a mini-batch at some weights, and the same cost as one function of the flat weights."""

    def __init__(self, case, shards, dtype="float64", share=False, full_batch=False):
        model, loss, targets, weights = CASES[case]
        initial = nn.initial_parameters(model, X, 0, dtype)
        parameters, self.running = initial.parameters, initial.running
        self.layout = Layout.of(parameters)
        parts = Shards(shards)
        objective = Objective(
            model,
            loss,
            self.layout,
            OneProcess(),
            parts,
            np.dtype(dtype),
            self.running,
            seed=3,
            arena=Arena(OneProcess(), self.layout, dtype, share=share),
            steps_per_epoch=int(full_batch),
        )
        columns = [None if a is None else a.astype(dtype) if a.dtype.kind == "f" else a for a in (X, targets, weights)]
        rows = [np.array(parts.of_batch(len(X), n), int) for n in range(shards)]
        batch = [Shard(n, *(None if a is None else a[r] for a in columns)) for n, r in enumerate(rows)]
        self.on_batch = MiniBatchCost(objective, batch, 5)
        self.w = self.layout.flatten(parameters, dtype) + RNG.normal(0, 0.1, self.layout.size).astype(dtype)
        self.total = len(X) if weights is None else weights.sum()

    def with_batch(self, batch):
        return MiniBatchCost(self.on_batch.objective, batch, self.on_batch.step)

    def parameters(self, flat):
        ends = np.cumsum([0, *(np.prod(s, dtype=int) for s in self.layout.shapes.values())])
        shapes = zip(self.layout.shapes.items(), ends, ends[1:], strict=False)
        return {name: ad.reshape(flat[a:b], shape=shape) for (name, shape), a, b in shapes}

    def outputs(self, flat, shard):
        scope = nn.use(self.parameters(flat), self.running, RandomKey(3, 5, shard.number))
        return self.on_batch.objective.model(scope, shard.inputs)

    def losses(self, outputs, shard):
        """Return the weighted losses."""
        losses = as_weighted(self.on_batch.objective.loss(outputs, shard.targets), shard.example_weights)
        return losses if shard.example_weights is None else losses * shard.example_weights

    @property
    def filled(self):
        return [shard for shard in self.on_batch.batch if len(shard.inputs)]

    def cost(self, flat):
        return sum(ad.sum_(self.losses(self.outputs(flat, s), s)) for s in self.filled) / self.total

    def gauss_newton(self):
        found = 0
        for shard in self.filled:
            jacobian = ad.jacobian(lambda flat, s=shard: self.outputs(flat, s))(self.w)
            jacobian = jacobian.reshape(-1, self.layout.size)
            outputs = self.outputs(self.w, shard)
            inner = ad.hessian(lambda z, s=shard: ad.sum_(self.losses(z, s)))(outputs)
            found = found + jacobian.T @ inner.reshape(outputs.size, outputs.size) @ jacobian
        return found / self.total


@pytest.fixture(params=CASES)
def case(request):
    return request.param


@pytest.mark.parametrize("shards", [1, 3, 16])
def test_products_are_those_of_the_full_cost(case, shards):
    problem = Problem(case, shards)
    curvature = problem.on_batch.curvature(problem.w)
    exact, gauss_newton = ad.hessian(problem.cost)(problem.w), problem.gauss_newton()
    for _ in range(2):
        v = RNG.standard_normal(problem.w.shape)
        np.testing.assert_allclose(curvature.hessian_product(v), exact @ v, atol=1e-12)
        np.testing.assert_allclose(curvature.gauss_newton_product(v), gauss_newton @ v, atol=1e-12)
    np.testing.assert_allclose(curvature.gradient(), problem.on_batch.value_and_gradient(problem.w).gradient)
    matrix = curvature.gauss_newton_matrix()
    np.testing.assert_allclose(matrix, gauss_newton, atol=1e-12)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)


def test_products_are_differences_of_gradients(case):
    problem, h = Problem(case, 3), 1e-5
    v = RNG.standard_normal(problem.w.shape)
    after, before = (problem.on_batch.value_and_gradient(problem.w + s * h * v).gradient.copy() for s in (1, -1))
    product = problem.on_batch.curvature(problem.w).hessian_product(v)
    np.testing.assert_allclose(product, (after - before) / (2 * h), atol=1e-7)


def test_a_product_may_be_taken_along_what_lies_where_its_sum_comes(case):
    problem = Problem(case, 3, share=True)
    curvature, gradient = (
        problem.on_batch.curvature(problem.w),
        problem.on_batch.value_and_gradient(problem.w).gradient,
    )
    copy = gradient.copy()
    found = curvature.gauss_newton_product(curvature.hessian_product(gradient)).copy()
    assert found.any()
    np.testing.assert_array_equal(found, curvature.gauss_newton_product(curvature.hessian_product(copy).copy()))


def test_the_value_is_that_of_value_and_gradient_to_the_last_bit(case):
    for dtype in ("float32", "float64"):
        problem = Problem(case, 4, dtype)
        assert problem.on_batch.value(problem.w) == problem.on_batch.value_and_gradient(problem.w).cost


@pytest.mark.parametrize("case", ["plain", "weights", "positions"])
def test_squares_of_gradients_of_single_losses(case):
    problem, exact = Problem(case, 3), 0
    for shard in problem.filled:
        of_each = ad.jacobian(lambda flat, s=shard: problem.losses(problem.outputs(flat, s), s))(problem.w)
        weights = 1 if shard.example_weights is None else shard.example_weights
        scale = np.sqrt(np.where(np.equal(weights, 0), 1, weights))  # w g^2 from (w g)^2
        of_each = of_each / np.reshape(scale, (*np.shape(scale), 1))
        exact = exact + (of_each**2).reshape(-1, problem.layout.size).sum(axis=0)
    curvature = problem.on_batch.curvature(problem.w)
    np.testing.assert_allclose(curvature.squared_gradients(2000), exact / problem.total, rtol=0.2, atol=2e-3)
    assert (curvature.squared_gradients(1) >= 0).all()


def test_a_jacobian_of_many_columns_is_taken_in_parts(monkeypatch):
    problem = Problem("weights", 2)
    whole = problem.on_batch.curvature(problem.w).gauss_newton_matrix()
    monkeypatch.setattr("dbp.cost.curvature.JACOBIAN_BYTES", 8 * 18 * 7)
    parts = problem.on_batch.curvature(problem.w).gauss_newton_matrix()
    np.testing.assert_allclose(parts, whole, atol=1e-14)


def test_products_are_in_the_type_of_the_weights():
    problem, exact = Problem("weights", 3, "float32"), Problem("weights", 3)
    exact.w[:] = problem.w
    v = RNG.standard_normal(problem.w.shape)
    one, other = (p.on_batch.curvature(p.w) for p in (problem, exact))
    for name in ("hessian_product", "gauss_newton_product"):
        found = getattr(one, name)(v.astype(np.float32))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, getattr(other, name)(v), rtol=1e-3, atol=1e-5)
    matrix = one.gauss_newton_matrix()
    assert matrix.dtype == np.float64
    np.testing.assert_allclose(matrix, other.gauss_newton_matrix(), rtol=1e-3, atol=1e-5)


def test_a_part_is_the_first_examples_of_each_shard():
    problem = Problem("weights", 2)
    v = RNG.standard_normal(problem.w.shape)
    found = problem.on_batch.curvature(problem.w, part=0.5).hessian_product(v).copy()
    first = problem.with_batch([shard.rows(slice(0, 3)) for shard in problem.on_batch.batch])
    np.testing.assert_array_equal(found, first.curvature(problem.w).hessian_product(v))


def test_of_a_batch_that_never_changes_different_steps_take_different_parts():
    problem = Problem("plain", 1, full_batch=True)
    objective, v = problem.on_batch.objective, RNG.standard_normal(problem.w.shape)
    (whole,), seen = problem.on_batch.batch, set()
    for step in range(20):
        found = MiniBatchCost(objective, [whole], step).curvature(problem.w, part=0.3).hessian_product(v).copy()
        first = int(generator(3, "part of the batch", step).random() * 11)
        some = MiniBatchCost(objective, [whole.rows(np.arange(first, first + 4) % 11)], step)
        np.testing.assert_array_equal(found, some.curvature(problem.w).hessian_product(v))
        seen.add(first)
    assert len(seen) > 5
    assert max(seen) > 7


def test_no_weight_at_all_gives_zero():
    problem = Problem("weights", 2)
    cost = problem.with_batch(
        [shard._replace(example_weights=0 * shard.example_weights) for shard in problem.on_batch.batch]
    )
    curvature = cost.curvature(problem.w)
    assert cost.value(problem.w) == 0
    assert not curvature.hessian_product(problem.w).any()
    assert not curvature.gauss_newton_matrix().any()


@pytest.mark.parametrize(("ranks", "sizes"), [(2, ""), *slow((1, ""), (3, ""), (4, "2,2"))])
def test_ranks_and_nodes_give_the_same_bits(ranks, sizes, one_rank):
    outcome = mpirun(ranks, PROGRAMS / "curvature_digests.py", env={"DBP_NODE_SIZES": sizes})
    assert outcome.code == 0, outcome.text
    assert outcome.out == one_rank


@pytest.fixture(scope="module")
def one_rank():
    outcome = mpirun(1, PROGRAMS / "curvature_digests.py")
    assert outcome.code == 0, outcome.text
    return outcome.out
