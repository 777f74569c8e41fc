"""K-FAC against the paper's formulas with whole matrices, and on problems with known solutions."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import dbp
import dbp.autodiff as ad
from dbp import nn
from dbp.cost.mini_batch_cost import MiniBatchCost
from dbp.errors import UserError
from dbp.optim import KFAC
from dbp.optim.kfac import decrease_of_all

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 3)), RNG.normal(size=(40, 2))
SETTINGS = {"damping_interval": 2, "factor_damping_interval": 4, "inverse_interval": 3, "part": 1.0, "factor_part": 1.0}


@dataclass(frozen=True)
class Drawn(nn.MeanSquaredError):
    """The squared error, whose drawn targets follow from the outputs, so that a reference knows them."""

    kind: ClassVar[str] = "drawn"

    def draw(self, outputs, numbers):  # noqa: ARG002
        """Return targets without a random number."""
        return outputs + np.sin(1000 * outputs)


class Reference:
    """Algorithm 2 of Martens and Grosse 2015 with whole matrices, for a network 3-4-2 with tanh."""

    SHAPES: ClassVar = ((3, 4), (4,), (4, 2), (2,))
    gamma, k, last = 1.0, 0, None

    def __init__(self, weights, damping):
        self.w, self.damping, self.gamma = np.concatenate([a.ravel() for a in weights]), damping, damping**0.5
        self.averages = None

    def parts(self, w):
        sizes = np.cumsum([np.prod(s) for s in self.SHAPES])[:-1]
        if isinstance(w, ad.Tensor):
            ends = [0, *sizes, w.size]
            return [ad.reshape(w[a:b], shape=s) for a, b, s in zip(ends, ends[1:], self.SHAPES, strict=False)]
        return [part.reshape(s) for part, s in zip(np.split(w, sizes), self.SHAPES, strict=True)]

    def outputs(self, w):
        w1, b1, w2, b2 = self.parts(w)
        return ad.tanh(X @ w1 + b1) @ w2 + b2

    def cost(self, w):
        return ad.mean(ad.square(self.outputs(w) - Y))

    def factors(self):
        """Return A and G of each layer; the mean over two outputs halves the variance of each."""
        w1, b1, w2, b2 = self.parts(self.w)
        hidden = np.tanh(X @ w1 + b1)
        outputs = hidden @ w2 + b2
        by_outputs = -2 * np.sin(1000 * outputs) * np.sqrt(1 / 2)
        by_hidden = (by_outputs @ w2.T) * (1 - hidden**2)
        rows = [np.hstack([X, np.ones((40, 1))]), by_hidden, np.hstack([hidden, np.ones((40, 1))]), by_outputs]
        return [r.T @ r / 40 for r in rows]

    def direction(self, gradient, gamma):
        found = []
        for a, g, (weight, bias) in zip(
            self.averages[::2], self.averages[1::2], (gradient[:2], gradient[2:]), strict=True
        ):
            pi = np.sqrt(np.trace(a) / len(a) / (np.trace(g) / len(g)))
            matrix = np.kron(a + pi * gamma * np.eye(len(a)), g + gamma / pi * np.eye(len(g)))
            v = np.vstack([weight, bias])
            u = np.linalg.solve(matrix, v.ravel()).reshape(v.shape)
            found += [u[:-1].ravel(), u[-1]]
        return -np.concatenate(found)

    def model(self, gradient, direction, fisher):
        along = np.stack([direction] if self.last is None else [direction, self.last])
        matrix = along @ (fisher + self.damping * np.eye(len(fisher))) @ along.T
        found = -np.linalg.solve(matrix, along @ gradient)
        return -0.5 * (along @ gradient) @ found, found @ along

    def step(self):
        self.k += 1
        keep, found = min(1 - 1 / self.k, 0.95), self.factors()
        before = self.averages or found
        self.averages = [keep * m + (1 - keep) * new for m, new in zip(before, found, strict=True)]
        gradient = ad.gradient(self.cost)(self.w)
        jacobian = ad.jacobian(self.outputs)(self.w).reshape(80, -1)
        fisher = jacobian.T @ jacobian * 2 / 80
        gamma, omega = max(self.gamma, self.damping**0.5), (19 / 20) ** (4 / 2)
        gammas = [gamma]
        if self.k % 4 == 0:
            gammas = [max(gamma * omega, self.damping**0.5), gamma / omega, gamma]
        if self.k % 3 == 0 or self.k <= 3 or len(gammas) > 1:
            self.frozen = [m.copy() for m in self.averages]
        self.averages, now = self.frozen, self.averages
        tried = [(*self.model(gradient, self.direction(self.parts(gradient), g), fisher), g) for g in gammas]
        self.averages = now
        decrease, self.last, best = max(tried, key=lambda one: one[0])
        self.gamma = best if len(gammas) > 1 else self.gamma
        if self.k % 2 == 0:
            ratio = (self.cost(self.w) - self.cost(self.w + self.last)) / decrease
            self.damping *= (19 / 20) ** (2 if ratio > 1 / 4 else -2 if ratio < 0 else 0)
        self.w = self.w + self.last


def test_every_step_is_that_of_the_formulas():
    model = [nn.Dense(4, "tanh"), nn.Dense(2)]
    begin = nn.initial_parameters(nn.as_model(model), X, 1, "float64").parameters
    reference = Reference(begin.values(), 0.01)
    options = {"model": model, "loss": Drawn(), "data": (X, Y), "dtype": "float64", "batch_size": 40, "shards": 1}
    found = dbp.fit(**options, weights=begin, epochs=12, quiet=True, optimizer=KFAC(0.01, **SETTINGS))
    dampings = []
    for _ in range(12):
        dampings.append(reference.damping)
        reference.step()
    np.testing.assert_allclose(np.concatenate([a.ravel() for a in found.weights.values()]), reference.w, rtol=1e-6)
    assert found.history["damping"][-1] == pytest.approx(dampings[-1], rel=1e-12)
    assert len(set(dampings)) > 3
    assert reference.gamma != 0.1


def test_one_linear_layer_takes_the_step_of_newton():
    """Train linear regression, whose Fisher matrix is A times a number, so that the first step leads to the minimum."""
    targets = X @ [1.0, -2.0, 3.0] + RNG.normal(size=40) + 5
    rows = np.hstack([X, np.ones((40, 1))])
    minimum = np.linalg.lstsq(rows, targets)[0]
    optimizer = KFAC(1e-12, part=1.0, factor_part=1.0)
    options = {"loss": "mean_squared_error", "dtype": "float64", "batch_size": 40, "optimizer": optimizer}
    found = dbp.fit(model=[nn.Dense(1)], data=(X, targets), epochs=1, quiet=True, **options)
    np.testing.assert_allclose(np.concatenate([a.ravel() for a in found.weights.values()]), minimum, rtol=1e-5)


def trained(optimizer, x=X, y=Y, **settings):
    """Return a short training of a network with the optimizer."""
    options = {"model": [nn.Dense(4, "tanh"), nn.Dense(2)], "loss": "mean_squared_error", "epochs": 6, "quiet": True}
    return dbp.fit(data=(x, y), optimizer=optimizer, **options | {"batch_size": 20, "shards": 1} | settings)


@pytest.mark.parametrize("momentum", [True, False])
def test_the_cost_falls(momentum):
    cost = trained(KFAC(0.1, momentum=momentum, part=0.5), epochs=20).history["cost"]
    assert cost[-1] < 0.8 * cost[0]


def test_the_result_is_the_average_of_the_weights():
    plain, averaged = trained(KFAC(0.1)), trained(KFAC(0.1, average=0.9))
    assert averaged.history["cost"] == plain.history["cost"]
    assert all((averaged.weights[name] != plain.weights[name]).any() for name in plain.weights)
    assert trained(KFAC(0.1, average=0.9), epochs=1, batch_size=40).weights.keys() == plain.weights.keys()


def test_a_step_to_a_cost_that_is_not_finite_is_taken_back(monkeypatch):
    calls, evaluate = [], MiniBatchCost.value_and_gradient

    def fails_once(self, weights):
        found = evaluate(self, weights)
        calls.append(found.cost)
        return found._replace(finite=False) if len(calls) == 2 else found

    monkeypatch.setattr(MiniBatchCost, "value_and_gradient", fails_once)
    found = trained(KFAC(0.1, damping_interval=1000), epochs=3, batch_size=40)
    first, second, third = found.history["cost"]
    assert second == pytest.approx(first, rel=1e-5)
    assert third < first
    assert found.history["damping"] == [pytest.approx(d) for d in (0.1, 0.4, 0.4)]


def test_noise_does_not_drive_the_damping():
    """Train on mini-batches of pure noise, to which steps fit until weights do no more than move about a minimum."""
    noise = np.random.default_rng(3).normal(size=(400, 2))
    inputs = np.random.default_rng(4).normal(size=(400, 3))
    found = trained(KFAC(0.01, damping_interval=1, part=1.0, factor_part=1.0), inputs, noise, batch_size=10, epochs=15)
    damping = np.array(found.history["damping"])
    assert ((damping > 0.002) & (damping < 0.05)).all()


@pytest.mark.parametrize(("steps", "decrease"), [(0, -0.5), (1, -0.5), (2, 0.25), (10, -0.35)])
def test_what_a_step_does_for_all_examples(steps, decrease):
    assert decrease_of_all(-0.5, 1.0, steps) == pytest.approx(decrease)


def test_factors_that_are_not_finite_are_not_averaged():
    """Take a gradient that is finite in float32, unlike its products with itself."""
    found = trained(KFAC(0.1, damping_interval=1000), x=X * 1e20, epochs=2)
    assert all(np.isfinite(array).all() for array in found.weights.values())
    assert found.history["damping"] == [pytest.approx(0.1 * 4**2), pytest.approx(0.1 * 4**4)]


def test_several_targets_have_the_factors_of_their_weighted_losses():
    """Compare two targets, each with one of two outputs and half of the weight, with one target of both outputs."""

    def split(scope, x):
        y = nn.Dense(2)(scope, x)
        return {"a": y[:, :1], "b": y[:, 1:]}

    half = nn.TargetLoss(Drawn(), 0.5)
    options = {"optimizer": KFAC(0.1, **SETTINGS), "dtype": "float64", "epochs": 5, "batch_size": 40, "quiet": True}
    options |= {"weights": nn.initial_parameters(nn.Dense(2), X, 1, "float64").parameters, "shards": 3}
    data = {"inputs": X, "targets": {"a": Y[:, :1], "b": Y[:, 1:]}}
    several = dbp.fit(model=split, loss={"a": half, "b": half}, data=data, **options)
    one = dbp.fit(model=nn.Dense(2), loss=Drawn(), data=(X, Y), **options)
    for name, array in one.weights.items():
        np.testing.assert_allclose(several.weights[name], array, rtol=1e-7)


def test_layers_that_sum_over_all_shards():
    model = [nn.Dense(4), nn.BatchNorm(statistics="batch"), nn.Activation("tanh"), nn.Dense(2)]
    cost = trained(KFAC(0.1), model=model, shards=3, epochs=10).history["cost"]
    assert cost[-1] < cost[0]


def test_frozen_layers_stay_as_they_are():
    begin = nn.initial_parameters(nn.Sequential(nn.Dense(4, "tanh"), nn.Dense(2)), X, 1, "float32").parameters
    found = trained(KFAC(0.1), weights=begin, frozen=["dense_1/*"]).weights
    assert all((found[name] == begin[name]).all() == name.startswith("dense_1") for name in begin)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"damping": 0.0}, "damping must be"),
        ({"part": 0.0}, "part must be above 0 and at most 1, but is 0.0"),
        ({"factor_part": 1.5}, "factor_part must be above 0 and at most 1, but is 1.5"),
        ({"decay": 1.0}, "decay must"),
        ({"inverse_interval": 0}, "inverse_interval must"),
    ],
)
def test_settings_have_bounds(settings, message):
    with pytest.raises(UserError, match=message):
        KFAC(**settings)
