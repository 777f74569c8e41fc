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
