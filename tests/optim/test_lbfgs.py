"""L-BFGS against known minima, SciPy and the matrix that it stands for; its line search against its conditions."""

import numpy as np
import pytest

from dbp.errors import UserError
from dbp.optim import LBFGS, Outcome, State
from dbp.optim.lbfgs_history import History
from dbp.optim.line_search import DECREASE, SLOPE, strong_wolfe
from tests.optim.functions import Function, logistic, quadratic, rosenbrock, steps


def search(function, first, trials=20):
    """Search along a function of one number; return the result and the points evaluated."""
    (value, slope), tried = function(0.0), []
    run = strong_wolfe(value, slope, first, trials)
    length = next(run)
    while True:
        tried.append(length)
        try:
            length = run.send(function(length))
        except StopIteration as end:
            return end.value, tried


def more_thuente(one, two):
    """Return the functions of More and Thuente 1994, section 5, from equation 5.4 on."""

    def gamma(b):
        return np.sqrt(1 + b**2) - b

    def value(a):
        return gamma(one) * np.sqrt((1 - a) ** 2 + two**2) + gamma(two) * np.sqrt(a**2 + one**2)

    def slope(a):
        return gamma(one) * (a - 1) / np.sqrt((1 - a) ** 2 + two**2) + gamma(two) * a / np.sqrt(a**2 + one**2)

    return lambda a: (value(a), slope(a))


LINES = {
    "5.1": lambda a: (-a / (a * a + 2), (a * a - 2) / (a * a + 2) ** 2),
    "5.2": lambda a: ((a + 0.004) ** 5 - 2 * (a + 0.004) ** 4, 5 * (a + 0.004) ** 4 - 8 * (a + 0.004) ** 3),
    "5.4": more_thuente(0.001, 0.001),
    "5.5": more_thuente(0.01, 0.001),
    "5.6": more_thuente(0.001, 0.01),
    "exponential": lambda a: (np.exp(-a) + 0.1 * a, -np.exp(-a) + 0.1),
    "barrier": lambda a: (-np.log(2 - a) - 3 * a, 1 / (2 - a) - 3) if a < 2 else (np.nan, np.nan),
    "wall": lambda a: (-a, -1.0 + 100 * max(0, a - 1)) if a < 1.0001 else (np.inf, np.inf),
}


@pytest.mark.parametrize("first", [1e-3, 0.1, 1.0, 10.0, 1e3])
@pytest.mark.parametrize("name", LINES)
def test_the_search_meets_its_conditions(name, first):
    line = LINES[name]
    found, tried = search(line, first)
    (start, fall), (value, slope) = line(0.0), line(found.length)
    assert value <= start + DECREASE * found.length * fall
    assert found.is_last == (tried[-1] == found.length)
    if name not in ("wall", "5.2"):  # the slope is nowhere flat, or only within a tenth of an interval that is enough
        assert found.is_wolfe
        assert abs(slope) <= SLOPE * abs(fall)
    assert len(tried) <= 20


def test_a_search_that_finds_nothing():
    assert search(lambda a: (a, -1.0 if a == 0 else 1.0), 1.0)[0].length == 0
    assert search(lambda a: (0.0, -1.0) if a == 0 else (np.nan, np.nan), 1.0)[0].length == 0


@pytest.mark.parametrize(
    ("problem", "tolerance"),
    [(rosenbrock(), 1e-6), (rosenbrock(10), 1e-6), (quadratic(20, 100), 1e-6), (logistic(), 1e-6)],
)
@pytest.mark.parametrize("memory", [1, 5, 10])
def test_known_minima(problem, tolerance, memory):
    w, _, last = steps(LBFGS(memory=memory, cost_tolerance=0), problem, problem.start, 2000)
    assert last.outcome is Outcome.CONVERGED
    assert "the gradient's norm is" in last.reason
    np.testing.assert_allclose(w, problem.minimum, atol=tolerance)


@pytest.mark.parametrize("make", [rosenbrock, lambda: rosenbrock(10), lambda: rosenbrock(100), logistic])
def test_no_more_evaluations_than_scipy(make):
    optimize = pytest.importorskip("scipy.optimize")
    problem = make()
    peer = optimize.minimize(
        problem.value_of, problem.start, jac=problem.gradient_of, method="L-BFGS-B", options={"gtol": 1e-6, "ftol": 0}
    )
    for tolerance in (np.linalg.norm(peer.jac),):
        _, _, last = steps(LBFGS(gradient_tolerance=tolerance, cost_tolerance=0), problem, problem.start, 2000)
    assert last.outcome is Outcome.CONVERGED
    assert problem.evaluations <= peer.nfev * 1.05 + 1


def test_the_direction_is_that_of_the_matrix():
    """The inverse BFGS matrix is updated by the last pairs (Nocedal and Wright 2006, equation 7.19)."""
    problem, method = rosenbrock(6), LBFGS(memory=4)
    w, state, _ = steps(method, problem, problem.start, 9)
    history, lengths = History(state, 4), state.numbers["lengths"]
    assert len(history.pairs) == 4
    pairs = [(lengths[i] * state.vectors[f"step_{i}"], state.vectors[f"change_{i}"]) for i in history.pairs]
    s, y = pairs[-1]
    h = np.eye(6) * (s @ y) / (y @ y)
    for s, y in pairs:
        v = np.eye(6) - np.outer(y, s) / (y @ s)
        h = v.T @ h @ v + np.outer(s, s) / (y @ s)
    gradient = problem.gradient_of(w)
    slope = history.find_direction(problem.space, state.numbers["products"])
    np.testing.assert_allclose(history.direction, -h @ gradient, rtol=1e-9)
    assert slope == pytest.approx(-gradient @ h @ gradient)


def test_curvature_that_is_not_positive_is_left_out():
    state = State(numbers=History.numbers(3), rows=np.zeros((len(History.vectors(3)), 2)))
    history, space = History(state, 3), rosenbrock().space
    for change, kept in ((1.0, 1), (-1.0, 1), (0.0, 1), (2.0, 2)):
        history.gradient[:], history.direction[:], history.change[:] = 1, 1, change
        products = history.add(space, 0.5)
        assert len(history.pairs) == kept
        assert len(products) == 2 * kept + 1


def test_a_new_function_at_every_step():
    """Over mini-batches, only the pairs are carried from step to step."""
    problem = quadratic(20, 50)
    exact, problem.is_deterministic = problem.gradient_of, False
    rng = np.random.default_rng(0)
    noise = [np.zeros(20)]

    def value(w):
        return 0.5 * (w - problem.minimum) @ exact(w) + noise[0] @ w

    noisy = Function(value, lambda w: exact(w) + noise[0], start=problem.start)
    noisy.is_deterministic = False
    method, w = LBFGS(), noisy.start.copy()
    state = State.of(method, lambda count: np.zeros((count, 20)))
    for number in range(60):
        noise[0] = rng.normal(size=20) * 1e-3
        step = method.step(noisy, w, state, number + 1, 1.0)
        assert step.outcome is Outcome.CONTINUES
    np.testing.assert_allclose(w, problem.minimum, atol=5e-3)


def test_what_is_no_number_never_reaches_the_weights():
    def value(w):
        return -np.log(w[0]) + w[0] if w[0] > 0 else np.nan

    problem = Function(value, lambda w: np.array([1 - 1 / w[0]]), start=[1e-3])
    w, _, last = steps(LBFGS(), problem, problem.start, 100)
    assert last.outcome is Outcome.CONVERGED
    np.testing.assert_allclose(w, 1, atol=1e-6)
    w, _, last = steps(LBFGS(), Function(lambda w: np.nan, lambda w: w), [1.0], 3)
    assert last.outcome is Outcome.NOT_FINITE
    assert w == [1.0]


def test_a_gradient_that_is_wrong_is_told():
    problem = Function(lambda w: float(w @ w), lambda w: -2 * w, start=[1.0, 2.0])
    w, _, last = steps(LBFGS(), problem, problem.start, 5)
    assert last.outcome is Outcome.LINE_SEARCH_FAILED
    assert "no step along the gradient lowers the cost" in last.reason
    np.testing.assert_array_equal(w, problem.start)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LBFGS(memory=0), "memory must be at least 1, but is 0"),
        (lambda: LBFGS(evaluations=0), "evaluations must be at least 1"),
        (lambda: LBFGS(gradient_tolerance=-1.0), "gradient_tolerance must be 0 or a positive number, but is -1.0"),
        (lambda: LBFGS(cost_tolerance=float("nan")), "cost_tolerance must be"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()
