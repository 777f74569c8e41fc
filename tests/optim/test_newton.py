"""Truncated Newton methods on problems with known solutions."""

import math

import numpy as np
import pytest

import dbp
from dbp import nn
from dbp.errors import UserError
from dbp.optim import Newton, Outcome, State
from dbp.optim.newton import DAMPING_FACTORS, STORED_ITERATES, damping_factor
from tests.optim.functions import Function, biggs, freudenstein_roth, logistic, quadratic, rosenbrock, rows_like, steps

RNG = np.random.default_rng(0)
BOTH = [(curvature, control) for curvature in ("gauss_newton", "hessian") for control in ("damping", "trust_region")]
PROBLEMS = {
    "rosenbrock": (rosenbrock(), 1e-7),
    "rosenbrock of ten": (rosenbrock(10), 1e-7),
    "quadratic": (quadratic(), 1e-8),
    "logistic": (logistic(), 1e-6),
}


@pytest.mark.parametrize(("curvature", "control"), BOTH)
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("options", [{}, {"precondition": 0.0, "decay": 0.0}])
def test_known_minima(name, curvature, control, options):
    function, tolerance = PROBLEMS[name]
    method = Newton(curvature, control, gradient_tolerance=1e-8, **options)
    w, _, taken = steps(method, function, function.start, 150)
    assert taken.outcome is Outcome.CONVERGED
    assert "the gradient's norm is" in taken.reason
    assert np.linalg.norm(function.gradient_of(w)) <= 1e-8
    if name == "rosenbrock of ten" and curvature == "hessian":  # it has another minimum, near (-1, 1, ..., 1)
        assert np.linalg.eigvalsh(function.hessian_of(w))[0] > 0
    else:
        np.testing.assert_allclose(w, function.minimum, atol=tolerance)


def test_a_trust_region_finds_a_minimum_in_few_steps():
    for function, most in ((rosenbrock(), 40), (logistic(), 8)):
        method = Newton("hessian", "trust_region")
        assert steps(method, function, function.start, most)[2].outcome is Outcome.CONVERGED


@pytest.mark.parametrize("radius", [0.1, 1.0, 10.0])
def test_a_trust_region_does_not_get_lost_in_a_curved_valley(radius):
    """Check where it ends: steps as precise as can be follow a valley of cost 0.243 for thousands of evaluations."""
    function = biggs()
    with np.errstate(over="ignore"):
        w, _, taken = steps(Newton("hessian", "trust_region", radius=radius), function, function.start, 200)
    assert taken.outcome is Outcome.CONVERGED
    assert function.value_of(w) < 1e-9
    assert function.evaluations < 300


@pytest.mark.parametrize("options", [{}, {"precondition": 0.0, "decay": 0.0}])
def test_damping_needs_no_more_evaluations_than_a_trust_region(options):
    """Take a least cost above 0, where steps gain less than rounding before the gradient is within tolerance."""
    counts = {}
    for control in ("damping", "trust_region"):
        function = freudenstein_roth()
        w, _, taken = steps(Newton(control=control, **options), function, function.start, 100)
        assert taken.outcome in (Outcome.CONVERGED, Outcome.LINE_SEARCH_FAILED)
        np.testing.assert_allclose(w, function.minimum, atol=1e-6)
        counts[control] = function.evaluations
    assert counts["damping"] <= 1.1 * counts["trust_region"] < 100


def test_the_damping_follows_the_ratio():
    factors = [damping_factor(ratio) for ratio in (-math.inf, -1.0, 0.0, 0.25, 0.5, 0.75, 1.0, math.inf)]
    least, largest = DAMPING_FACTORS
    assert factors == [largest, largest, 2.0, 1.125, 1.0, 0.875, least, least]


@pytest.mark.parametrize("misleads", [True, False])
def test_a_step_is_judged_on_the_next_mini_batch(misleads):
    """Give each mini-batch a minimum of its own, which its model knows; the other one may be far from it."""
    minima = [np.full(3, 1.0), np.full(3, -1.0 if misleads else 1.0)]
    functions = [
        Function(lambda w, m=m: (w - m) @ (w - m) / 2, lambda w, m=m: w - m, lambda w: np.eye(3), np.zeros(3))
        for m in minima
    ]
    method, w = Newton(damping=1.0), np.zeros(3)
    state = State.of(method, rows_like(w))
    dampings = []
    for function in functions:
        function.is_deterministic = False
        method.step(function, w, state, 1, 1.0)
        dampings.append(state.numbers["damping"][0])
    assert dampings[0] == 1.0
    assert (dampings[1] > 1.0) == misleads
    assert (dampings[1] < 1.0) != misleads


@pytest.mark.parametrize("control", ["damping", "trust_region"])
def test_a_minimum_within_rounding_ends_at_once(control):
    """Minimize 1 + x^2 / 2 from x = 1e-9, where it cannot fall in float64."""
    function = Function(lambda w: 1 + float(w @ w) / 2, lambda w: w.copy(), lambda w: np.eye(len(w)))
    _, _, taken = steps(Newton(control=control, gradient_tolerance=0.0), function, np.array([1e-9, 0.0]), 1)
    assert taken.outcome is Outcome.LINE_SEARCH_FAILED
    assert taken.evaluations <= 3


def test_it_is_told_how_much_was_asked():
    function = rosenbrock(4)
    method, w = Newton(), function.start
    before = function.evaluations, function.products
    _, _, taken = steps(method, function, w, 1)
    assert taken.evaluations == function.evaluations - before[0]
    assert taken.products == function.products - before[1] + method.probes
    assert 0 < taken.length <= 1


@pytest.mark.parametrize("control", ["damping", "trust_region"])
def test_a_saddle_is_left(control):
    """The function f = x^4 / 4 - x^2 / 2 + y^2 / 2 has minima at x = -1 and 1 and negative curvature between."""
    function = Function(
        lambda w: w[0] ** 4 / 4 - w[0] ** 2 / 2 + w[1] ** 2 / 2,
        lambda w: np.array([w[0] ** 3 - w[0], w[1]]),
        lambda w: np.diag([3 * w[0] ** 2 - 1, 1]),
    )
    method = Newton("hessian", control, damping=1e-3, decay=0.0)
    w, _, taken = steps(method, function, [1e-3, 0.0], 60)
    assert taken.outcome is Outcome.CONVERGED
    np.testing.assert_allclose(w, [1, 0], atol=1e-6)


@pytest.mark.parametrize("control", ["damping", "trust_region"])
def test_damping_and_radius_learn_from_the_model(control):
    wrong = Function(lambda w: (w**4).sum() / 4, lambda w: w**3, lambda w: np.eye(len(w)) / 10, np.ones(3))
    for function, is_right in ((quadratic(), True), (wrong, False)):
        method = Newton(control=control, damping=1e-3, radius=1e-3 if is_right else 10.0)
        _, state, _ = steps(method, function, function.start, 1)
        name, (value,) = next(iter(state.numbers.items()))
        assert (value < getattr(method, name)) == (is_right == (name == "damping"))


def unsound(bad):
    """Return half of |w|^2 where w is above 1/2, and elsewhere numbers or a cost that are not finite."""
    return Function(lambda w: (w @ w) / 2 if w.min() > 0.5 else bad, lambda w: w.copy(), lambda w: np.eye(len(w)))


@pytest.mark.parametrize("control", ["damping", "trust_region"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_cost_that_is_no_number_never_reaches_the_weights(control, bad):
    method = Newton(control=control, damping=1e-6, radius=10.0)
    w, _, taken = steps(method, unsound(bad), np.ones(4), 1)
    assert 0.5 < w.min() < 1
    assert taken.outcome is Outcome.CONTINUES


@pytest.mark.parametrize("control", ["damping", "trust_region"])
def test_a_gradient_that_is_no_number_changes_nothing(control):
    function = Function(lambda w: 1.0, lambda w: w * np.nan, lambda w: np.eye(len(w)))
    w, state, taken = steps(Newton(control=control), function, np.ones(4), 1)
    assert taken.outcome is Outcome.NOT_FINITE
    assert (w == 1).all()
    assert not any(vector.any() for vector in state.vectors.values())


@pytest.mark.parametrize("control", ["damping", "trust_region"])
@pytest.mark.parametrize("hessian", [np.nan, -1.0])
def test_products_that_lead_nowhere_end_with_an_outcome(control, hessian):
    """Products are NaN, or the cost does not fall as its gradient says."""
    function = Function(lambda w: -float(w.sum()), lambda w: w.copy(), lambda w: hessian * np.eye(len(w)))
    w, _, taken = steps(Newton(control=control, decay=0.0), function, np.ones(4), 1)
    assert taken.outcome in (Outcome.LINE_SEARCH_FAILED, Outcome.NEGATIVE_CURVATURE)
    assert "the gradient's norm is 2" in taken.reason
    assert (w == 1).all()
    function.is_deterministic = False  # the next mini-batch may be a better one
    assert steps(Newton(control=control), function, np.ones(4), 1)[2].outcome is Outcome.CONTINUES


def test_an_earlier_iterate_is_taken_where_the_last_one_costs_more():
    """The model does not know the wall that far steps run into."""
    inner = quadratic(30, 1e6, seed=2)
    limit = 0.3 * np.linalg.norm(inner.minimum)

    def cost(w):
        return float(inner.value_of(w)) + 1e9 * max(0.0, np.linalg.norm(w) - limit)

    function = Function(cost, inner.gradient_of, inner.hessian_of, inner.start)
    method = Newton(damping=1e-6, precondition=0.0)
    w, state, taken = steps(method, function, function.start, 1)
    assert taken.length == 1
    assert 0 < np.linalg.norm(w) < limit < np.linalg.norm(state.vectors["solution"])
    assert sum(np.array_equal(w, state.scratch[f"iterate_{i}"]) for i in range(STORED_ITERATES)) == 1


def test_types_are_kept():
    function = rosenbrock()
    w, state, _ = steps(Newton(), function, function.start.astype(np.float32), 2)
    assert w.dtype == np.float32
    assert all(vector.dtype == np.float32 for vector in (*state.vectors.values(), *state.scratch.values()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"curvature": "fisher"}, "unknown curvature 'fisher'"),
        ({"control": "damp"}, "unknown control 'damp'; did you mean 'damping'"),
        ({"preconditioner": "kfac"}, "unknown preconditioner 'kfac'; valid: kronecker, squared_gradients"),
        (
            {"preconditioner": "kronecker", "control": "trust_region"},
            "preconditioner 'kronecker' goes only with control 'damping'; leave one",
        ),
        ({"damping": 0}, "damping must be a positive number, but is 0"),
        ({"radius": math.nan}, "radius must be a positive number, but is nan"),
        ({"iterations": 0}, "iterations must be at least 1, but is 0"),
        ({"probes": 0}, "probes must be at least 1, but is 0"),
        ({"part": 0.0}, "part must be above 0 and at most 1, but is 0.0"),
        ({"tolerance": -1.0}, "tolerance must be 0 or a positive number, but is -1.0"),
        ({"precondition": -1.0}, "precondition must be 0 or a positive number"),
        ({"decay": 1.0}, "decay must be at least 0 and below 1, but is 1.0"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        Newton(**settings)


@pytest.mark.parametrize(("curvature", "control"), BOTH)
def test_a_network_is_trained_to_a_stationary_point(curvature, control):
    x = RNG.normal(size=(40, 3))
    y = np.tanh(x @ RNG.normal(size=(3, 2)))
    result = dbp.fit(
        model=[nn.Dense(3, "tanh"), nn.Dense(2)],
        loss="mean_squared_error",
        data=(x, y),
        optimizer=Newton(curvature, control, damping=1e-2, gradient_tolerance=1e-5),
        epochs=200,
        batch_size=40,
        shards=3,
        dtype="float64",
        quiet=True,
    )
    assert result.history["cost"][-1] < 1e-3
    costs = np.array(result.history["cost"])
    assert (np.diff(costs) <= 0).all()
