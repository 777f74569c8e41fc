"""Functions with known minima, as optimizers see them on one process."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np

from dbp.optim import Outcome, State


@dataclass
class Evaluated:
    gradient: np.ndarray
    cost: float
    finite: bool = True
    arriving: None = None
    rows: tuple = ()


class Space:
    """The space of a single process, which owns all of each vector, in two parts."""

    is_root = True
    changing = contextlib.nullcontext()

    def __init__(self, size, shapes=None):
        self.shapes = shapes or {"all": (size,)}
        self.owned = [slice(0, size // 2), slice(size // 2, size)]

    def fence(self, vector):
        pass

    broadcast_vector = fence

    def fence_jobs(self, vector, parts):
        pass

    def dots(self, left, right):
        return np.array([[np.dot(a.astype(float), b.astype(float)) for b in right] for a in left])

    def combine(self, numbers, rows, target):
        target[:] = sum(number * row for number, row in zip(numbers, rows, strict=True) if number)

    def dot(self, a, b):
        return float(self.dots([a], [b])[0, 0])

    def squares(self, vector):
        sizes = [int(np.prod(shape)) for shape in self.shapes.values()]
        return np.array([(part.astype(float) ** 2).sum() for part in np.split(vector, np.cumsum(sizes)[:-1])])

    def jobs(self, count):
        return range(count)

    def broadcast(self, value):
        return value

    def gather_vector(self, vector):
        return vector


class Function:
    """A function of a vector with its derivatives, which counts its evaluations.

    Args:
        value: of a vector.
        gradient: of a vector.
        hessian: of a vector, a matrix; gauss_newton is the same unless it is given.
        start: where to begin.
        minimum: where it is smallest.
    """

    is_deterministic = True
    steps_per_epoch = 1

    def __init__(self, value, gradient, hessian=None, start=(), minimum=None, gauss_newton=None):
        self.value_of, self.gradient_of, self.hessian_of = value, gradient, hessian
        self.gauss_newton_of = gauss_newton or hessian
        self.start, self.minimum = np.array(start, float), None if minimum is None else np.array(minimum, float)
        self.space = Space(len(self.start))
        self.evaluations = self.products = 0

    @property
    def root(self):
        return self.space

    def value_and_gradient(self, w, early=False):  # noqa: ARG002
        self.evaluations += 1
        cost, gradient = float(self.value_of(w)), self.gradient_of(w)
        return Evaluated(gradient, cost, bool(np.isfinite(cost) and np.isfinite(gradient).all()))

    def value(self, w):
        self.evaluations += 1
        return float(self.value_of(w))

    def curvature(self, w, part=1.0):  # noqa: ARG002
        return Derivatives(self, w)


def rosenbrock(n=2):
    """Return Rosenbrock's curved valley (1960), coupled pairwise for more than two numbers."""

    def value(w):
        return np.sum((1 - w[:-1]) ** 2 + 100 * (w[1:] - w[:-1] ** 2) ** 2)

    def gradient(w):
        g, bend = np.zeros_like(w), w[1:] - w[:-1] ** 2
        g[:-1] = -2 * (1 - w[:-1]) - 400 * w[:-1] * bend
        g[1:] += 200 * bend
        return g

    def jacobian(w):
        rows = np.zeros((2 * n - 2, n), w.dtype)
        rows[np.arange(n - 1), np.arange(n - 1)] = -1
        rows[np.arange(n - 1, 2 * n - 2), np.arange(n - 1)] = -20 * w[:-1]
        rows[np.arange(n - 1, 2 * n - 2), np.arange(1, n)] = 10
        return rows

    def gauss_newton(w):
        return 2 * jacobian(w).T @ jacobian(w)

    def hessian(w):
        bend = w[1:] - w[:-1] ** 2
        return gauss_newton(w) + np.diag([*(-400 * bend), 0])

    start = np.tile([-1.2, 1.0], n)[:n]
    return Function(value, gradient, hessian, start, np.ones(n), gauss_newton)


def least_squares(residuals, jacobian, start, minimum=None):
    """Return the sum of the squares of residuals, with its Hessian by differences of the gradient."""

    def gradient(w):
        return 2 * jacobian(w).T @ residuals(w)

    def hessian(w):
        widths = np.diag(1e-6 * np.maximum(1, np.abs(w)))
        rows = np.array([(gradient(w + e) - gradient(w - e)) / (2 * e.sum()) for e in widths])
        return (rows + rows.T) / 2

    return Function(
        lambda w: np.sum(residuals(w) ** 2),
        gradient,
        hessian,
        start,
        minimum,
        lambda w: 2 * jacobian(w).T @ jacobian(w),
    )


def freudenstein_roth():
    """Return problem 2 of Moré, Garbow and Hillstrom (1981), which has a minimum of 48.98 near its start."""

    def residuals(w):
        x, y = w
        return np.array([-13 + x + ((5 - y) * y - 2) * y, -29 + x + ((y + 1) * y - 14) * y])

    def jacobian(w):
        y = w[1]
        return np.array([[1, 10 * y - 3 * y**2 - 2], [1, 3 * y**2 + 2 * y - 14]])

    return least_squares(residuals, jacobian, [0.5, -2.0], [11.41277900, -0.89680525])


def biggs():
    """Return problem 18 of Moré, Garbow and Hillstrom (1981), EXP6, whose curved valleys lead to several places."""
    t = 0.1 * np.arange(1, 14)
    y = np.exp(-t) - 5 * np.exp(-10 * t) + 3 * np.exp(-4 * t)

    def residuals(w):
        return w[2] * np.exp(-t * w[0]) - w[3] * np.exp(-t * w[1]) + w[5] * np.exp(-t * w[4]) - y

    def jacobian(w):
        a, b, c = np.exp(-t * w[0]), np.exp(-t * w[1]), np.exp(-t * w[4])
        return np.stack([-t * w[2] * a, t * w[3] * b, a, -b, -t * w[5] * c, c], axis=1)

    return least_squares(residuals, jacobian, [1.0, 2.0, 1.0, 1.0, 1.0, 1.0], [1.0, 10.0, 1.0, 5.0, 4.0, 3.0])


def quadratic(n=50, condition=1e4, seed=0):
    """Return a quadratic with eigenvalues from 1 to the condition number."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    a, there = (q * np.geomspace(1, condition, n)) @ q.T, rng.normal(size=n)
    return Function(
        lambda w: 0.5 * (w - there) @ a @ (w - there), lambda w: a @ (w - there), lambda w: a, np.zeros(n), there
    )


def logistic(n=10, examples=200, decay=1e-2, seed=0):
    """Return logistic regression with weight decay; Newton's method finds its minimum."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(examples, n)), rng.integers(0, 2, examples)
    sign = 2 * y - 1

    def value(w):
        return np.logaddexp(0, -sign * (x @ w)).mean() + 0.5 * decay * w @ w

    def gradient(w):
        return -(x.T @ (sign / (1 + np.exp(sign * (x @ w))))) / examples + decay * w

    def hessian(w):
        p = 1 / (1 + np.exp(-x @ w))
        return (x.T * (p * (1 - p))) @ x / examples + decay * np.eye(n)

    there = np.zeros(n)
    for _ in range(50):
        there = there - np.linalg.solve(hessian(there), gradient(there))
    return Function(value, gradient, hessian, np.zeros(n), there)


class Derivatives:
    """The second derivatives of a function at a point."""

    def __init__(self, function, w):
        self.function, self.w = function, w.copy()

    def hessian_product(self, vector):
        self.function.products += 1
        return self.function.hessian_of(self.w) @ vector

    def gauss_newton_product(self, vector):
        self.function.products += 1
        return self.function.gauss_newton_of(self.w) @ vector

    def gauss_newton_matrix(self):
        return self.function.gauss_newton_of(self.w)

    def squared_gradients(self, probes):  # noqa: ARG002
        return self.function.gradient_of(self.w) ** 2


BOWL = Function(lambda w: 0.5 * (w * w).sum(), lambda w: w.copy(), lambda w: np.eye(len(w)))


def rows_like(w):
    """Return a function that allocates a state's vectors."""
    return lambda count: np.zeros((count, len(w)), w.dtype)


def steps(method, function, start, count, schedule=None, shapes=None):
    """Take so many steps, or fewer if the method ends; return weights, state and the last step."""
    w = np.array(start) if hasattr(start, "dtype") else np.array(start, float)
    function.space, state, taken = (
        Space(len(w), shapes),
        State.of(method, rows_like(w)),
        None,
    )
    for t in range(count):
        taken = method.step(function, w, state, t + 1, schedule.factor(t, count) if schedule else 1.0)
        if taken.outcome is not Outcome.CONTINUES:
            break
    return w, state, taken
