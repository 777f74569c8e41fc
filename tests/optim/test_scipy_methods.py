"""SciPy's methods: the same iterates as SciPy alone, outcomes as data, and a thread that ends in every case."""

import sys
import threading

import numpy as np
import pytest
import threadpoolctl
from threadpoolctl import threadpool_limits

import dbp
from dbp.config.config_file import load_table
from dbp.config.from_table import read_settings, settings_from
from dbp.config.to_table import table_from
from dbp.config.toml import to_toml
from dbp.errors import UserError
from dbp.optim import Outcome, Scipy, State
from dbp.optim.scipy_driver import METHODS
from tests.jobs import PROGRAMS, ROOT, mpirun, run, slow
from tests.optim.functions import Function, Space, logistic, quadratic, rosenbrock, rows_like, steps

scipy_optimize = pytest.importorskip("scipy.optimize")
PROBLEMS = {"rosenbrock": rosenbrock(), "quadratic": quadratic(20, 1e2), "logistic": logistic()}
WITH_PRODUCTS = [name for name, traits in METHODS.items() if traits.uses_products]
X = np.random.default_rng(0).standard_normal((40, 3))
SMALL = {"loss": "mean_squared_error", "data": (X, np.sin(X[:, :2])), "batch_size": 40, "quiet": True}
LAYERS = [dbp.nn.Dense(4, "tanh"), dbp.nn.Dense(2)]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def minimized(method, function, start=None, count=2000):
    w, state, taken = steps(method, function, function.start if start is None else start, count)
    state.close()
    return w, taken


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_iterates_and_evaluations_are_those_of_scipy(name, problem):
    function = PROBLEMS[problem]
    function.evaluations = function.products = 0
    w, state = (
        function.start.copy(),
        State.of(Scipy(name), rows_like(function.start)),
    )
    function.space, iterates, counted = Space(len(w)), [], np.zeros(2, int)
    for t in range(2000):
        taken = Scipy(name).step(function, w, state, t + 1, 1.0)
        iterates.append(w.copy())
        counted += taken.evaluations, taken.products
        assert taken.evaluation.cost == function.value_of(w)
        if taken.outcome is not Outcome.CONTINUES:
            break
    state.close()
    assert (taken.outcome, counted.tolist()) == (Outcome.CONVERGED, [function.evaluations, function.products])
    assert (counted[1] > 0) == (name in WITH_PRODUCTS)
    expected = []
    with threadpool_limits(1):  # as in a run, since their number changes bits
        alone = scipy_optimize.minimize(
            lambda x: (float(function.value_of(x)), function.gradient_of(x)),
            function.start,
            jac=True,
            hessp=(lambda x, p: function.hessian_of(x) @ p) if name in WITH_PRODUCTS else None,
            method=name,
            callback=lambda x, *_: expected.append(np.copy(x)),
        )
    np.testing.assert_array_equal(iterates[: len(expected)], expected)  # the last one is not always called back
    assert len(iterates) - len(expected) in (0, 1)
    np.testing.assert_array_equal(w, alone.x)
    np.testing.assert_allclose(w, function.minimum, atol=2e-3)


@pytest.mark.filterwarnings("ignore:The line search algorithm")
@pytest.mark.parametrize("name", METHODS)
def test_weights_of_single_precision(name):
    function = logistic()
    w, taken = minimized(Scipy(name), function, function.start.astype(np.float32))
    assert w.dtype == np.float32
    assert taken.outcome is Outcome.CONVERGED
    np.testing.assert_allclose(w, function.minimum, atol=2e-3)


def test_options_and_tolerance_are_passed_on():
    function = rosenbrock()
    precise, rough = (minimized(Scipy("CG", tolerance=t), function)[1] for t in (1e-8, 1e-1))
    assert precise.evaluation.cost < 1e-12 < rough.evaluation.cost
    taken = minimized(Scipy("L-BFGS-B", {"maxiter": 5}), function)[1]
    assert taken.outcome is Outcome.OUT_OF_EVALUATIONS
    assert "SciPy's L-BFGS-B: STOP: TOTAL NO. OF ITERATIONS REACHED LIMIT" in taken.reason
    norms = [
        minimized(Scipy("trust-ncg", {"initial_trust_radius": r}), function, count=1)[1].length for r in (0.1, 0.15)
    ]
    np.testing.assert_allclose(norms, [0.1, 0.15])


def test_there_is_no_limit_on_iterations_by_default():
    function = rosenbrock(10)
    taken = minimized(Scipy("SLSQP", {"ftol": 1e-300}), function, count=300)[1]
    assert taken.outcome is not Outcome.OUT_OF_EVALUATIONS


def test_scipy_is_not_imported_before_it_is_needed():
    outcome = run(
        sys.executable,
        "-c",
        "import dbp.optim, dbp.config.from_table, dbp.config.to_table, sys; sys.exit('scipy' in sys.modules)",
        cwd=ROOT,
    )
    assert outcome.code == 0


def test_the_blas_of_scipy_takes_one_thread_meanwhile():
    def threads():
        found = threadpoolctl.threadpool_info()
        return {p["filepath"]: p["num_threads"] for p in found if p["user_api"] == "blas"}

    seen = []
    function = Function(lambda w: (seen.append(threads()), w @ w)[1], lambda w: 2 * w, start=[1.0, 2])
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = threads()
        minimized(Scipy(), function)
        assert threads() == before
    for path, number in seen[0].items():
        assert number == (1 if "scipy.libs" in path else before[path])


# --- numbers that are none --------------------------------------------------------------------------

WALL = Function(
    lambda w: np.inf if (w < -3).any() else 50 * ((w + 2) ** 2).sum(),
    lambda w: 100 * (w + 2),
    lambda w: 100 * np.eye(len(w)),
    [5.0, 6, 7],
    [-2.0, -2, -2],
)


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
@pytest.mark.parametrize("name", METHODS)
def test_infinite_costs_are_left_to_scipy_and_never_reach_the_weights(name):
    w, taken = minimized(Scipy(name), WALL, count=100)
    assert np.isfinite(w).all()
    if name == "SLSQP":  # goes there
        assert taken.outcome is Outcome.NOT_FINITE
        np.testing.assert_array_equal(w, WALL.start)
        assert taken.evaluation.cost == np.inf
    else:
        assert taken.outcome is Outcome.CONVERGED
        np.testing.assert_allclose(w, WALL.minimum, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_a_start_without_a_cost_ends_at_once(name):
    function = Function(lambda w: np.nan, lambda w: w * np.nan, start=[1.0, 2.0])
    w, taken = minimized(Scipy(name), function)
    assert (taken.outcome, function.evaluations) == (Outcome.NOT_FINITE, 1)
    assert w.tolist() == [1, 2]


@pytest.mark.parametrize("name", WITH_PRODUCTS)
def test_products_that_are_no_numbers_end_the_step(name):
    function = Function(lambda w: w @ w, lambda w: 2 * w, lambda w: w[:, None] * np.full(2, np.nan), [1.0, 2.0])
    w, taken = minimized(Scipy(name), function)
    assert taken.outcome is Outcome.NOT_FINITE
    assert "a product with the Hessian is not finite" in taken.reason
    assert w.tolist() == [1, 2]


# --- what SciPy may do besides ----------------------------------------------------------------------


def made_up(monkeypatch, minimize):
    monkeypatch.setattr(scipy_optimize, "minimize", minimize)


def test_an_iterate_that_was_not_evaluated_is(monkeypatch):
    def minimize(fun, start, callback, **_):
        fun(start)
        callback(start + 1)
        fun(start + 2)
        callback(start + 2)
        callback(start + np.nan)
        return scipy_optimize.OptimizeResult(x=start + np.nan, success=True, message="")

    made_up(monkeypatch, minimize)
    function = quadratic(3)
    for count, at, evaluations in ((1, 1, 2), (2, 2, 3)):
        function.evaluations = 0
        w, taken = minimized(Scipy(), function, count=count)
        assert (w == at).all()
        assert (taken.outcome, function.evaluations) == (Outcome.CONTINUES, evaluations)
        assert taken.evaluation.cost == function.value_of(w)
    w, taken = minimized(Scipy(), function, count=3)
    assert taken.outcome is Outcome.NOT_FINITE
    assert (w == 2).all()


def test_an_error_of_scipy_is_raised(monkeypatch):
    def minimize(fun, start, **_):
        fun(start)
        raise IndexError("in SciPy")

    made_up(monkeypatch, minimize)
    function = quadratic(3)
    state = State.of(Scipy(), lambda count: np.zeros((count, 3)))
    with pytest.raises(IndexError, match="in SciPy"):
        Scipy().step(function, function.start.copy(), state, 1, 1.0)
    state.close()


@pytest.mark.parametrize("options", [{"memory": 5}, {"maxcor": "many"}, {"jac": True}])
def test_options_that_scipy_does_not_take(options):
    function = quadratic(3)
    state = State.of(Scipy(), lambda count: np.zeros((count, 3)))
    with pytest.raises(UserError, match=r"optimizer.options are not those of SciPy's L-BFGS-B: .*show_options"):
        Scipy(options=options).step(function, function.start.copy(), state, 1, 1.0)
    state.close()
    assert function.evaluations <= 1


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("count", [1, 2])
def test_a_run_that_ends_early_leaves_no_thread(name, count):
    minimized(Scipy(name), rosenbrock(4), count=count)  # the fixture looks


# --- runs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_a_run(name, tmp_path):
    settings = SMALL | {"model": LAYERS, "optimizer": Scipy(name), "out": str(tmp_path)}
    result = dbp.fit(**settings, epochs=4)
    history = result.history
    assert history["cost"] == sorted(history["cost"], reverse=True)
    assert max(history["step_norm"]) > 0
    assert history["evaluations"][-1] >= 4
    assert (history["products"][-1] > 0) == (name in WITH_PRODUCTS)
    more = dbp.fit(**settings, epochs=6)
    assert (more.steps, more.history["cost"][:4]) == (6, history["cost"])
    assert more.history["cost"][-1] <= history["cost"][-1]


def test_who_resumes_is_told_that_the_method_begins_anew(tmp_path, capsys):
    settings = SMALL | {"model": LAYERS, "optimizer": Scipy(), "out": str(tmp_path), "quiet": False}
    dbp.fit(**settings, epochs=2)
    assert "begins anew" not in capsys.readouterr().out
    dbp.fit(**settings, epochs=3)
    assert "note: SciPy's method starts again from these weights" in capsys.readouterr().out


def test_a_run_that_converges():
    result = dbp.fit(model=[dbp.nn.Dense(2)], **SMALL, optimizer=Scipy(), epochs=500)
    assert result.steps < 100
    solution = np.linalg.lstsq(np.column_stack([X, np.ones(40)]), np.sin(X[:, :2]))[0]
    found = np.vstack(list(result.weights.values()))
    np.testing.assert_allclose(found, solution, atol=1e-3)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_exception_ends_the_thread(error):
    calls = []

    def model(scope, x):
        calls.append(1)
        if len(calls) == 5:
            raise error
        return x @ scope.parameter("weight", (3, 2))

    with pytest.raises(error):
        dbp.fit(**SMALL, model=model, optimizer=Scipy(), epochs=100)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_an_exception_on_one_rank_ends_all(rank):
    outcome = mpirun(2, PROGRAMS / "failing_training.py", rank, 8, "raise", "scipy")
    assert outcome.code == 1
    assert outcome.err.count(f"dbp: rank {rank} of 2") == 1
    assert "failed with ZeroDivisionError; all ranks end" in outcome.err


def test_mini_batches_and_random_layers_are_refused_before_the_first_step():
    needs = "needs the same cost at every evaluation: batch_size must be 'all', or the number of"
    with pytest.raises(UserError, match=needs) as caught:
        dbp.fit(**SMALL | {"batch_size": 39}, model=LAYERS, optimizer=Scipy(), epochs=1)
    assert caught.value.on_all_ranks
    dropping = [dbp.nn.Dense(4), dbp.nn.Dropout(0.5), dbp.nn.Dense(2)]
    with pytest.raises(UserError, match="no layer may draw random numbers"):
        dbp.fit(**SMALL, model=dropping, optimizer=Scipy(), epochs=1)


@pytest.mark.parametrize("ranks", [1, *slow(2)])
def test_scipy_that_is_missing_is_named_with_its_remedy(ranks, small, tmp_path):
    (tmp_path / "scipy").mkdir()
    (tmp_path / "scipy" / "__init__.py").write_text("raise ImportError('no such thing here')")
    changes = (
        "--set",
        "batch_size=1294",
        "--set",
        "optimizer={ kind = 'scipy' }",
        "--set",
        "schedule={kind='constant'}",
    )
    path = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    outcome = mpirun(ranks, "-m", "dbp", "train", small, *changes, env=path)
    assert outcome.code == 2
    assert outcome.err.count("needs SciPy, which cannot be imported (no such thing here)") == 1
    assert "pip install scipy" in outcome.err


# --- settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scipy("lbfgsb"), "unknown method 'lbfgsb'; did you mean 'L-BFGS-B'"),
        (lambda: Scipy("Powell"), "method 'Powell' does not use gradients; valid: .*trust-ncg"),
        (
            lambda: Scipy("dogleg"),
            "method 'dogleg' needs the whole Hessian, but only products with it are computed; valid",
        ),
        (lambda: Scipy(tolerance=0.0), "tolerance must be a positive number, but is 0.0"),
        (lambda: Scipy(options={"hess_inv0": [1]}), r"options.hess_inv0 must be a number, text, true or false"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_in_a_config(tmp_path):
    (tmp_path / "a.toml").write_text(
        """
        model.layers = [{ kind = "dense", units = 2 }]
        loss = "mean_squared_error"
        epochs = 1
        batch_size = 40
        data.train = "x.h5"
        optimizer = { kind = "scipy", method = "TNC", tolerance = 1e-3, options = { eta = 0.25 } }
        """
    )
    table = load_table(tmp_path / "a.toml", ["optimizer.options.rescale=2"])
    settings = settings_from(table)
    assert settings.optimizer == Scipy("TNC", {"eta": 0.25, "rescale": 2}, 1e-3)
    (tmp_path / "b.toml").write_text(to_toml(table_from(settings)))
    assert settings_from(load_table(tmp_path / "b.toml", [])) == settings
    with pytest.raises(UserError, match=r"optimizer.options must be a table|optimizer.options must be .*, but is 3"):
        read_settings(tmp_path / "a.toml", ["optimizer.options=3"])
