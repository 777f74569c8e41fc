"""Levenberg-Marquardt against MINPACK, known minima and More's equations; the same bits when resumed."""

import numpy as np
import pytest

import dbp
from dbp.config.from_table import settings_from
from dbp.errors import UserError
from dbp.optim import LevenbergMarquardt, Outcome, State
from dbp.optim.dense_trust_region import Cholesky, trust_region_step
from tests.optim.functions import Function, logistic, quadratic, rosenbrock, steps

PROBLEMS = {
    "rosenbrock": rosenbrock(),
    "rosenbrock-6": rosenbrock(6),
    "quadratic": quadratic(15),
    "logistic": logistic(),
}
DENSE, SUBSPACE = LevenbergMarquardt(), LevenbergMarquardt(dense_up_to=0)
X = np.random.default_rng(0).standard_normal((40, 3))
LAYERS = [dbp.nn.Dense(4, "tanh"), dbp.nn.Dense(2)]
SMALL = {"model": LAYERS, "loss": "mean_squared_error", "data": (X, np.sin(X[:, :2])), "batch_size": 40, "quiet": True}


@pytest.mark.parametrize("method", [DENSE, SUBSPACE], ids=["dense", "subspace"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_known_minima(method, dtype, problem):
    function = PROBLEMS[problem]
    function.evaluations = 0
    w, _, taken = steps(method, function, function.start.astype(dtype), 200)
    assert w.dtype == dtype
    assert taken.outcome is Outcome.CONVERGED
    assert function.evaluations < 60
    np.testing.assert_allclose(w, function.minimum, atol=1e-6 if dtype == np.float64 else 1e-4)


# --- curve fits, beside MINPACK's lmder -------------------------------------------------------------

T = np.linspace(0, 4, 30)
DECAY = 2 * np.exp(-1.3 * T) + 0.5 + 0.02 * np.random.default_rng(0).standard_normal(30)
BARD = np.array([0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.1, 4.39])
U = np.arange(1, 16.0)
V = 16 - U


def decay(w):
    fall = np.exp(-w[1] * T)
    return w[0] * fall + w[2] - DECAY, np.stack([fall, -w[0] * T * fall, np.ones_like(T)], axis=1)


def wave(w):
    phase = w[1] * T + w[2]
    slope = w[0] * np.cos(phase)
    return w[0] * np.sin(phase) - np.sin(2.2 * T + 0.3), np.stack([np.sin(phase), T * slope, slope], axis=1)


def bard(w):
    """Compute problem 8 of More, Garbow and Hillstrom (1981)."""
    below = V * w[1] + np.minimum(U, V) * w[2]
    by_rest = U / below**2
    return BARD - (w[0] + U / below), np.stack([-np.ones(15), V * by_rest, np.minimum(U, V) * by_rest], axis=1)


FITS = [(decay, [1.0, 1, 0]), (decay, [10.0, 5, -3]), (wave, [0.5, 1.8, 0]), (bard, [1.0, 1, 1])]


def squares(curve, start):
    """Return half of the sum of squared residuals of a curve."""
    return Function(
        lambda w: 0.5 * curve(w)[0] @ curve(w)[0],
        lambda w: curve(w)[1].T @ curve(w)[0],
        lambda w: curve(w)[1].T @ curve(w)[1],
        start,
    )


@pytest.mark.parametrize(("curve", "start"), FITS)
def test_curve_fits_in_step_with_minpack(curve, start):
    least_squares = pytest.importorskip("scipy.optimize").least_squares
    function = squares(curve, start)
    w, _, taken = steps(DENSE, function, start, 100)
    found = least_squares(lambda w: curve(w)[0], start, lambda w: curve(w)[1], method="lm", x_scale="jac")
    assert taken.outcome is Outcome.CONVERGED
    assert function.evaluations <= found.nfev + 2
    np.testing.assert_allclose(w, found.x, rtol=1e-6)
    np.testing.assert_allclose(taken.evaluation.cost, found.cost, rtol=1e-9, atol=1e-20)


# --- steps to where weights have no influence -------------------------------------------------------

HOURS, DEMAND = np.array([1.0, 2, 3, 5, 7, 10]), np.array([109.0, 149, 149, 191, 213, 224])


def box_bod(w):
    """Compute BoxBOD of NIST's data sets for nonlinear regression, with one of its two starts far off."""
    fall = np.exp(-w[1] * HOURS)
    return w[0] * (1 - fall) - DEMAND, np.stack([1 - fall, w[0] * HOURS * fall], axis=1)


def bump(w):
    """Compute the residual of 1 - exp(-w^2) = 0.9, flat at 0 and far out."""
    return 0.1 - np.exp(-w * w), (2 * w * np.exp(-w * w))[:, None]


@pytest.mark.parametrize("radius", [0.1, 1, 10, 100, 1000, 1e6])
@pytest.mark.parametrize("start", [[1.0, 1], [100, 0.75]])
def test_box_bod_converges_at_its_minimum_alone(start, radius):
    """Begin at both starts; from the first, a radius of 100 leads to where a column of the Jacobian is nearly zero."""
    function = squares(box_bod, start)
    with np.errstate(over="ignore", invalid="ignore"):
        w, _, taken = steps(LevenbergMarquardt(initial_radius=radius), function, start, 200)
    if (start[0], radius) == (1, 100):
        assert taken.outcome is Outcome.INFLUENCE_LOST
        assert taken.reason.startswith("1 of 2 weights has none on the outputs any more")
        return
    assert taken.outcome is Outcome.CONVERGED
    np.testing.assert_allclose(w, [2.1380940889e2, 5.4723748542e-1], rtol=1e-4)  # as certified
    assert 2 * taken.evaluation.cost == pytest.approx(1.1680088766e3)


@pytest.mark.parametrize("dense_up_to", [1, 0])
def test_a_gradient_of_zero_far_out_is_no_minimum(dense_up_to):
    function = squares(bump, [1e-3])
    _, _, taken = steps(LevenbergMarquardt(initial_radius=1e9, dense_up_to=dense_up_to), function, [1e-3], 100)
    assert taken.outcome is Outcome.INFLUENCE_LOST
    assert taken.reason.endswith("try a smaller initial_radius")


def test_units_may_die():
    """A step on which units of a ReLU network die is taken: a shorter one ended at six times this cost."""
    model = [dbp.nn.Dense(6, "relu"), dbp.nn.Dense(1)]
    given = {"data": (X, np.abs(X).sum(1, keepdims=True)), "model": model, "dtype": "float64", "epochs": 60}
    found = dbp.fit(**SMALL | given, optimizer=DENSE)
    assert found.history["cost"][-1] == pytest.approx(0.12983573, rel=1e-5)


def test_a_start_without_influence_is_told():
    """Begin where nothing says where the minimum is: the outcome says that this may be none."""
    function = squares(box_bod, [1.0, 1000])
    w, _, taken = steps(DENSE, function, [1.0, 1000], 100)
    assert taken.outcome is Outcome.CONVERGED
    assert taken.reason.endswith("; 1 of 2 weights has no influence on the outputs there")
    assert w[0] == pytest.approx(DEMAND.mean())


# --- the step within a radius -----------------------------------------------------------------------


def model(n, rank, seed):
    rng = np.random.default_rng(seed)
    jacobian = rng.standard_normal((rank, n)) * np.geomspace(1, 1e-2, n)
    return jacobian.T @ jacobian, jacobian.T @ rng.standard_normal(rank)


@pytest.mark.parametrize("radius", [1e-3, 1e-1, 1.0, 1e2, 1e8])
@pytest.mark.parametrize(("n", "rank"), [(1, 1), (5, 5), (8, 3), (100, 150), (100, 60)])
def test_a_step_is_the_minimum_within_its_radius(n, rank, radius):
    for seed in range(3):
        matrix, gradient = model(n, rank, seed)
        found = trust_region_step(matrix, gradient, radius)
        q = found.step
        assert found.norm == pytest.approx(np.linalg.norm(q))
        assert found.norm <= 1.1 * radius * (1 + 1e-12)
        assert found.slope == pytest.approx(gradient @ q, rel=1e-5)
        assert found.reduction == pytest.approx(-(gradient @ q) - q @ matrix @ q / 2, rel=1e-5)
        left = (matrix + found.damping * np.eye(n)) @ q + gradient
        assert np.linalg.norm(left) <= 1e-6 * np.linalg.norm(gradient)
        if found.damping > 1e-12 * np.trace(matrix):
            assert found.norm >= 0.9 * radius or rank < n
        best = gradient @ gradient / (gradient @ matrix @ gradient)
        on_the_way = -gradient * min(0.9 * radius / np.linalg.norm(gradient), best)
        cauchy = -(gradient @ on_the_way) - on_the_way @ matrix @ on_the_way / 2
        assert found.reduction >= cauchy * (1 - 1e-9)


@pytest.mark.parametrize("n", [1, 63, 64, 65, 200])
def test_triangles_are_solved(n):
    matrix, right = model(n, n + 5, 0)[0] + np.eye(n), np.linspace(-1, 1, n)
    lower, factor = np.linalg.cholesky(matrix), Cholesky(matrix)
    np.testing.assert_allclose(lower @ factor.forward(right), right, atol=1e-12)
    np.testing.assert_allclose(lower.T @ factor.backward(right), right, atol=1e-12)


def test_the_radius_follows_the_ratio_as_in_lmder():
    function = quadratic(3, 10)  # of which the model is exact
    state_radius = []
    for radius in (1e-3, 1e3):
        w, state = function.start.copy(), State.of(DENSE, lambda count: np.zeros((count, 3)))
        state.numbers["radius"] = np.array([radius])
        taken = DENSE.step(function, w, state, 1, 1.0)
        state_radius.append(taken.length)
        assert taken.evaluations == 2
    assert state_radius[0] == pytest.approx(2e-3, rel=0.11)  # twice the norm of a step that the radius bounded
    assert state_radius[1] == pytest.approx(2 * np.linalg.norm(state.vectors["scale"] * function.minimum))


def test_the_subspace_is_built_once_a_step():
    function = rosenbrock(6)
    function.products = 0
    w, state = function.start.copy(), State.of(SUBSPACE, lambda count: np.zeros((count, 6)))
    for number in range(1, 9):
        before = function.products
        taken = SUBSPACE.step(function, w, state, number, 1.0)
        assert taken.products == function.products - before <= 6
    few = LevenbergMarquardt(dense_up_to=0, subspace=2)
    w, state = function.start.copy(), State.of(few, lambda count: np.zeros((count, 6)))
    assert few.step(function, w, state, 1, 1.0).products == 2


# --- what can go wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [DENSE, SUBSPACE], ids=["dense", "subspace"])
def test_what_is_not_finite_never_reaches_the_weights(method):
    start = np.array([1.0, 2.0])
    nowhere = Function(lambda w: np.nan, lambda w: w * np.nan)
    alone = Function(lambda w: 1.0 if (w == start).all() else np.inf, lambda w: w.copy(), lambda w: np.eye(2), start)
    bent = Function(lambda w: w @ w, lambda w: 2 * w, lambda w: np.full((2, 2), np.nan))
    for function in (nowhere, alone, bent):
        w, _, taken = steps(method, function, start, 3)
        assert taken.outcome is Outcome.NOT_FINITE
        assert (w == start).all()


@pytest.mark.parametrize("method", [DENSE, SUBSPACE], ids=["dense", "subspace"])
def test_a_wall_is_kept_away_from(method):
    function = Function(
        lambda w: np.inf if (w < 0).any() else ((w - 1e-3) ** 4).sum() + (w**2).sum(),
        lambda w: 4 * (w - 1e-3) ** 3 + 2 * w,
        lambda w: np.diag(2 + 1e-3 * w),
        [1.0, 2.0],
    )
    w, _, taken = steps(method, function, function.start, 100)
    assert np.isfinite(taken.evaluation.cost)
    assert (w >= 0).all()


def test_a_flat_place_is_the_minimum():
    function = Function(lambda w: 3.0, lambda w: 0 * w, lambda w: np.zeros((2, 2)))
    w, _, taken = steps(DENSE, function, [1.0, 2.0], 3)
    assert (taken.outcome, taken.reason) == (
        Outcome.CONVERGED,
        "the gradient is zero; 2 of 2 weights have no influence on the outputs there",
    )
    assert w.tolist() == [1, 2]


class MiniBatches:
    """A fit to other points at every step, so that the objective is not deterministic."""

    is_deterministic = False

    def __init__(self):
        self.rng, self.noise = np.random.default_rng(0), 0.0

    def draw(self):
        self.x = self.rng.standard_normal((8, 2))
        self.miss = lambda w: self.x @ (w - [1, 2])

    @property
    def as_function(self):
        function = Function(
            lambda w: 0.5 * self.miss(w) @ self.miss(w), lambda w: self.x.T @ self.miss(w), lambda w: self.x.T @ self.x
        )
        function.is_deterministic = False
        return function


@pytest.mark.parametrize("method", [DENSE, SUBSPACE], ids=["dense", "subspace"])
def test_mini_batches_do_not_end_a_run(method):
    batches, w = MiniBatches(), np.zeros(2)
    state = State.of(method, lambda count: np.zeros((count, 2)))
    for number in range(1, 7):
        batches.draw()
        function = batches.as_function
        function.space = steps.__globals__["Space"](2)
        taken = method.step(function, w, state, number, 1.0)
        assert taken.outcome is Outcome.CONTINUES
    np.testing.assert_allclose(w, [1, 2], atol=1e-6)


# --- runs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [DENSE, LevenbergMarquardt(dense_up_to=0, subspace=5)], ids=["dense", "subspace"])
@pytest.mark.parametrize("batch_size", [40, 20])
def test_a_run_resumed_has_the_same_bits(method, batch_size, tmp_path):
    settings = SMALL | {"optimizer": method, "batch_size": batch_size}
    whole = dbp.fit(**settings, epochs=6)
    dbp.fit(**settings, epochs=3, out=str(tmp_path))
    resumed = dbp.fit(**settings, epochs=6, out=str(tmp_path))
    for name, array in whole.weights.items():
        np.testing.assert_array_equal(resumed.weights[name], array)
    for column in ("cost", "trust_radius", "evaluations", "products"):
        assert resumed.history[column] == whole.history[column]
    assert whole.history["cost"][-1] < 0.2 * whole.history["cost"][0]


@pytest.mark.parametrize("loss", ["cross_entropy", "huber"])
def test_other_losses(loss):
    targets = (X[:, 0] > 0).astype(int) if loss == "cross_entropy" else np.sin(X[:, :2])
    costs = dbp.fit(**SMALL | {"loss": loss, "data": (X, targets)}, optimizer=DENSE, epochs=8).history["cost"]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < 0.1 * costs[0]


def test_a_run_that_converges_says_so(capsys):
    settings = SMALL | {"model": [dbp.nn.Dense(2)], "quiet": False}
    result = dbp.fit(**settings, optimizer=DENSE, epochs=100)
    assert result.steps < 10
    assert "converged (" in capsys.readouterr().out
    solution = np.linalg.lstsq(np.column_stack([X, np.ones(40)]), np.sin(X[:, :2]))[0]
    np.testing.assert_allclose(np.vstack(list(result.weights.values())), solution, atol=1e-5)


# --- settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cost_tolerance": -1.0}, "cost_tolerance must be at least 0 and below 1, but is -1.0"),
        ({"step_tolerance": 1.0}, "step_tolerance must be"),
        ({"gradient_tolerance": float("nan")}, "gradient_tolerance must be"),
        ({"initial_radius": 0.0}, "initial_radius must be a positive number, but is 0.0"),
        ({"dense_up_to": -1}, "dense_up_to must be at least 0, but is -1"),
        ({"subspace": 0}, "subspace must be at least 1, but is 0"),
    ],
)
def test_mistakes_are_named(wrong, message):
    with pytest.raises(UserError, match=message):
        LevenbergMarquardt(**wrong)


def test_in_a_config():
    table = {
        "model": {"layers": [{"kind": "dense", "units": 2}]},
        "loss": "mean_squared_error",
        "epochs": 1,
        "batch_size": 40,
        "data": {"train": "x.h5"},
        "optimizer": {"kind": "levenberg_marquardt", "initial_radius": 1, "dense_up_to": 50},
    }
    assert settings_from(table).optimizer == LevenbergMarquardt(initial_radius=1.0, dense_up_to=50)
