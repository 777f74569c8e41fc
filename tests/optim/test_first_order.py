"""Methods of first order step for step as PyTorch's, or as the equations of their papers, and their common options."""

import dataclasses
import math

import numpy as np
import pytest

from dbp.errors import UserError
from dbp.optim import (
    LAMB,
    LARS,
    OPTIMIZERS,
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Constant,
    Cosine,
    FirstOrder,
    Lion,
    Muon,
    NAdam,
    Outcome,
    RMSprop,
    State,
)
from dbp.optim.method import BLOCK
from dbp.optim.muon import orthogonalised
from tests.problems import BOWL, Evaluated, Space, logistic, quadratic, rosenbrock, steps

SHAPES = {
    "first/weight": (5, 7),
    "first/bias": (7,),
    "none": (0, 3),
    "second/weight": (7, 4),
    "second/bias": (4,),
    "kernel": (2, 2, 3, 5),
    "last/weight": (4, 3),
    "last/bias": (3,),
}
SIZE = sum(math.prod(shape) for shape in SHAPES.values())
STEPS = 12


class Noisy:
    """An objective of several parameters, whose gradient depends on step and weights.

    Args:
        dtype: of the weights.
        bad: steps whose gradient is not finite.
        shapes: of the parameters.
    """

    lasting = False

    def __init__(self, dtype=np.float64, bad=(), shapes=None):
        self.shapes = shapes or SHAPES
        self.size = sum(math.prod(shape) for shape in self.shapes.values())
        self.dtype, self.bad, self.calls, self.space = np.dtype(dtype), bad, 0, Space(self.size, self.shapes)
        self.start = np.random.default_rng(1).standard_normal(self.size).astype(dtype)

    def noise(self, call):
        return np.random.default_rng([2, call]).standard_normal(self.size).astype(self.dtype)

    def value_and_gradient(self, w, early=False):  # noqa: ARG002
        self.calls += 1
        if self.calls in self.bad:
            return Evaluated(np.full_like(w, np.nan), math.nan, finite=False)
        return Evaluated(self.noise(self.calls) + w, 1.0)

    def named(self, vector):
        parts = np.split(vector, np.cumsum([math.prod(shape) for shape in self.shapes.values()])[:-1])
        return {name: part.reshape(self.shapes[name]) for name, part in zip(self.shapes, parts, strict=True)}


def trained(method, objective=None, count=STEPS):
    """The weights after each of some steps, and the state."""
    objective = objective or Noisy()
    method.check(objective.shapes)
    w = objective.start.copy()
    state, seen = State.of(method, lambda count: np.zeros((count, len(w)), w.dtype)), []
    for t in range(1, count + 1):
        method.step(objective, w, state, t, 1.0)
        seen.append(w.copy())
    return seen, state


# --- beside PyTorch ---------------------------------------------------------------------------------


def torch_trained(make, objective, count=STEPS, clip=None):
    """As trained(), by an optimizer of PyTorch, of parameters by name; dense weights are the other way round there."""
    torch = pytest.importorskip("torch", reason="torch is not installed, so there is nothing to compare with")
    named = objective.named(objective.start.copy())
    tensors = {name: torch.from_numpy(array.copy()).requires_grad_() for name, array in named.items()}
    optimizers = make(torch, tensors)
    average = None
    for step in range(1, count + 1):
        noise = objective.named(objective.noise(step))
        for name, tensor in tensors.items():
            tensor.grad = torch.from_numpy(noise[name].copy()) + tensor.detach()
        if clip:
            clip(torch, list(tensors.values()))
        for optimizer in optimizers:
            optimizer.step()
        flat = np.concatenate([tensor.detach().numpy().reshape(-1) for tensor in tensors.values()])
        average = flat.copy() if average is None else average + 0.2 * (flat - average)
        yield flat, average


def alike(seen, expected, dtype):
    for found, flat in zip(seen, expected, strict=True):
        np.testing.assert_allclose(found, flat, rtol=2e-5 if dtype == np.float32 else 1e-11, atol=2e-6)


def one(kind, **options):
    """One optimizer of PyTorch for all parameters."""
    return lambda torch, tensors: [getattr(torch.optim, kind)(tensors.values(), **options)]


PAIRS = [
    (SGD(0.05), one("SGD", lr=0.05)),
    (SGD(0.05, 0.9), one("SGD", lr=0.05, momentum=0.9)),
    (SGD(0.05, 0.9, nesterov=True), one("SGD", lr=0.05, momentum=0.9, nesterov=True)),
    (Adagrad(), one("Adagrad")),
    (RMSprop(), one("RMSprop")),
    (RMSprop(1e-3, alpha=0.9, momentum=0.8), one("RMSprop", lr=1e-3, alpha=0.9, momentum=0.8)),
    (Adam(), one("Adam")),
    (Adam(0.1, 0.7, 0.9, 1e-3), one("Adam", lr=0.1, betas=(0.7, 0.9), eps=1e-3)),
    (AdamW(decay=("*",)), one("AdamW")),
    (NAdam(), one("NAdam")),
    (NAdam(0.05, 0.8, 0.99, momentum_decay=0.1), one("NAdam", lr=0.05, betas=(0.8, 0.99), momentum_decay=0.1)),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("method", "make"), PAIRS, ids=lambda value: getattr(value, "kind", ""))
def test_step_for_step_as_pytorch(method, make, dtype):
    objective = Noisy(dtype)
    expected = [flat for flat, _ in torch_trained(make, objective)]
    alike(trained(method, objective)[0], expected, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("kind", "method"),
    [("SGD", SGD), ("Adagrad", Adagrad), ("RMSprop", RMSprop), ("Adam", Adam), ("NAdam", NAdam), ("AdamW", AdamW)],
)
def test_options_are_those_of_pytorch(kind, method, dtype):
    """Decay of what has two or more axes, a rate of its own for one layer, a norm that is clipped, an average."""
    rates, objective = {"second/*": 0.5, "*/bias": 3.0}, Noisy(dtype)

    def make(torch, tensors):
        groups = []
        for name, tensor in tensors.items():
            rate = 0.01 * (0.5 if name.startswith("second/") else 1) * (3 if name.endswith("bias") else 1)
            groups.append({"params": [tensor], "lr": rate, "weight_decay": 0.3 if tensor.ndim > 1 else 0.0})
        return [getattr(torch.optim, kind)(groups, lr=0.01)]

    def clip(torch, tensors):
        torch.nn.utils.clip_grad_norm_(tensors, 5.0)
        torch.nn.utils.clip_grad_value_(tensors, 0.7)

    expected = list(torch_trained(make, objective, clip=clip))
    ours = method(0.01, weight_decay=0.3, layer_rates=rates, clip_norm=5.0, clip_value=0.7, average=0.8)
    seen, state = trained(ours, objective)
    alike(seen, [flat for flat, _ in expected], dtype)
    alike([state.trained(seen[-1])], [expected[-1][1]], dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_as_pytorch(monkeypatch, nesterov, dtype):
    """The matrix of the layer between by Muon, told there to compute as exactly as here, the rest by AdamW."""
    torch = pytest.importorskip("torch", reason="torch is not installed, so there is nothing to compare with")
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self.clone())
    shapes = {name: shape for name, shape in SHAPES.items() if name != "kernel"}
    objective = Noisy(dtype, shapes=shapes)
    turned = []

    class Turned(torch.optim.Muon):
        """PyTorch's weights have outputs first."""

        def step(self):
            inner.grad = weight.grad.T.contiguous()
            super().step()
            with torch.no_grad():
                weight.copy_(inner.T)

    def make(torch, tensors):
        nonlocal weight, inner
        weight = tensors["second/weight"]
        inner = weight.detach().T.contiguous().requires_grad_()
        turned.append(inner)
        decayed = [tensor for name, tensor in tensors.items() if tensor.ndim > 1 and name != "second/weight"]
        plain = [tensor for tensor in tensors.values() if tensor.ndim == 1]
        groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
        adamw = torch.optim.AdamW(groups, lr=3e-3)
        return [adamw, Turned([inner], lr=0.02, weight_decay=0.1, momentum=0.9, nesterov=nesterov)]

    weight = inner = None
    expected = [flat for flat, _ in torch_trained(make, objective)]
    method = Muon(0.02, momentum=0.9, nesterov=nesterov, adamw_learning_rate=3e-3, weight_decay=0.1)
    alike(trained(method, objective)[0], expected, dtype)


# --- by the equations of their papers ---------------------------------------------------------------


def by_equations(update, objective, count=STEPS):
    """As trained(): update(name, w, g, memory, t) gives the new w of a parameter, whose memory is a dict of its own."""
    named = objective.named(objective.start.astype(float))
    memory = {name: {} for name in named}
    for t in range(1, count + 1):
        noise = objective.named(objective.noise(t).astype(float))
        named = {name: update(name, w, noise[name] + w, memory[name], t) for name, w in named.items()}
        yield np.concatenate([w.reshape(-1) for w in named.values()])


def lion(name, w, g, memory, t):  # noqa: ARG001
    m, decay = memory.get("m", 0 * w), 0.1 * (w.ndim > 1)
    step = np.sign(0.9 * m + 0.1 * g)
    memory["m"] = 0.99 * m + 0.01 * g
    return w - 0.01 * (step + decay * w)


def lars(name, w, g, memory, t):  # noqa: ARG001
    decay = 0.1 * (w.ndim > 1)
    norm_w, norm_g = np.linalg.norm(w), np.linalg.norm(g)
    rate = 0.02 * norm_w / (norm_g + decay * norm_w) if w.ndim > 1 and w.size else 1
    memory["v"] = 0.8 * memory.get("v", 0) + 0.5 * rate * (g + decay * w)
    return w - memory["v"]


def lamb(name, w, g, memory, t):  # noqa: ARG001
    memory["m"] = 0.9 * memory.get("m", 0) + 0.1 * g
    memory["v"] = 0.999 * memory.get("v", 0) + 0.001 * g**2
    r = memory["m"] / (1 - 0.9**t) / (np.sqrt(memory["v"] / (1 - 0.999**t)) + 1e-6) + 0.1 * (w.ndim > 1) * w
    return w - 0.05 * (np.linalg.norm(w) / np.linalg.norm(r) if w.size else 1) * r


def muon(name, w, g, memory, t):
    if name == "kernel":
        memory["m"] = 0.95 * memory.get("m", 0) + g
        u = (g + 0.95 * memory["m"]).reshape(12, 5)
        return 0.998 * w - 0.02 * newton_schulz(u).reshape(w.shape)
    memory["m"] = 0.9 * memory.get("m", 0) + 0.1 * g
    memory["v"] = 0.999 * memory.get("v", 0) + 0.001 * g**2
    w = w - 1e-2 * 0.1 * (w.ndim > 1) * w
    return w - 1e-2 * memory["m"] / (1 - 0.9**t) / (np.sqrt(memory["v"] / (1 - 0.999**t)) + 1e-8)


def newton_schulz(x):
    """The polynomial 3.4445 s - 4.775 s^3 + 2.0315 s^5 of singular values, five times."""
    u, s, vt = np.linalg.svd(x / np.linalg.norm(x), full_matrices=False)
    for _ in range(5):
        s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
    return u * s @ vt


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("method", "update"),
    [
        (Lion(0.01, weight_decay=0.1), lion),
        (LARS(0.5, 0.8, trust=0.02, weight_decay=0.1), lars),
        (LAMB(0.05, weight_decay=0.1), lamb),
        (Muon(0.02, weight_decay=0.1, adamw_learning_rate=1e-2, matrices=("kernel",)), muon),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_step_for_step_by_their_equations(method, update, dtype):
    objective = Noisy(dtype)
    expected = list(by_equations(update, objective))
    for found, flat in zip(trained(method, objective)[0], expected, strict=True):
        np.testing.assert_allclose(
            found, flat, rtol=1e-3 if dtype == np.float32 else 1e-9, atol=1e-4 * (dtype is np.float32)
        )


@pytest.mark.parametrize("shape", [(6, 6), (3, 8), (8, 3), (1, 5)])
def test_orthogonalised(shape):
    x = np.random.default_rng(0).standard_normal(shape)
    s = np.linalg.svd(orthogonalised(x), compute_uv=False)
    assert ((s > 0.6) & (s < 1.25)).all()
    assert (orthogonalised(np.zeros(shape)) == 0).all()


def test_which_parameters_are_matrices():
    def names(method, shapes=SHAPES):
        groups = [setting.group for setting in method.settings(shapes)]
        return [name for name, group in zip(shapes, groups, strict=True) if group]

    assert names(Muon()) == ["second/weight", "kernel"]
    assert names(Muon(matrices=("first/*", "kern*"))) == ["first/weight", "kernel"]
    assert names(Muon(), {"a": (2, 3), "b": (3, 3), "c": (3, 2)}) == ["b"]
    assert names(Muon(), {"a": (2, 3)}) == []
    with pytest.raises(UserError, match=r"matrices must name parameters of two or more axes .* 'first/bias'; the near"):
        Muon(matrices=("first/bias",)).check(SHAPES)


# --- known minima -----------------------------------------------------------------------------------

MINIMA = [
    (SGD(1e-3, 0.9), SGD(1.5e-2, 0.9), SGD(0.5, 0.9)),
    (SGD(1e-3, 0.9, nesterov=True), SGD(1.5e-2, 0.9, nesterov=True), SGD(0.5, 0.9, nesterov=True)),
    (Adagrad(0.9), Adagrad(0.5), Adagrad(0.2)),
    (RMSprop(1e-2), RMSprop(1e-2), RMSprop(1e-2)),
    (Adam(2e-2), Adam(5e-2), Adam(5e-2)),
    (AdamW(2e-2), AdamW(5e-2), AdamW(5e-2)),
    (NAdam(2e-2), NAdam(5e-2), NAdam(5e-2)),
    (LARS(1e-3), LARS(1.5e-2), LARS(0.5)),
    (LAMB(2e-2), LAMB(1e-2), LAMB(5e-2)),
    (Lion(2e-3), Lion(5e-3), Lion(5e-3)),
    (Muon(adamw_learning_rate=2e-2), Muon(adamw_learning_rate=5e-2), Muon(adamw_learning_rate=5e-2)),
]


@pytest.mark.parametrize(("one", "two", "three"), MINIMA, ids=lambda method: method.kind)
def test_known_minima(one, two, three):
    for method, function, count in (
        (one, rosenbrock(), 6000),
        (two, quadratic(20, 1e2), 4000),
        (three, logistic(), 2000),
    ):
        schedule = Constant() if method.kind == "adagrad" else Cosine()  # its rates fall by themselves
        w, _, _ = steps(method, function, function.start, count, schedule)
        np.testing.assert_allclose(w, function.minimum, atol=0.02)


def test_a_known_minimum_in_matrices():
    """Muon's own steps, along a bowl of two matrices and a bias."""
    shapes = {"a/weight": (3, 5), "b/weight": (4, 2), "b/bias": (2,)}
    function, method = quadratic(25, 10.0), Muon(0.1, adamw_learning_rate=0.1, matrices=("*",))
    w, _, _ = steps(method, function, function.start, 2000, Cosine(), shapes)
    np.testing.assert_allclose(w, function.minimum, atol=0.02)


# --- options ----------------------------------------------------------------------------------------

ALL = [
    SGD(0.01),
    SGD(0.01, 0.9, nesterov=True),
    Adagrad(),
    RMSprop(momentum=0.5),
    Adam(),
    AdamW(),
    NAdam(),
    LARS(0.1),
    LAMB(),
    Lion(),
    Muon(),
]


def with_options(method, **options):
    return dataclasses.replace(method, **options)


def test_all_methods_are_tried():
    assert {type(method) for method in ALL} == {m for m in OPTIMIZERS.values() if issubclass(m, FirstOrder)}


@pytest.mark.parametrize("method", ALL, ids=lambda method: method.kind)
def test_clipping_is_that_of_the_gradient(method):
    """As if the gradient had been clipped before."""

    class Clipped(Noisy):
        def value_and_gradient(self, w, early=False):  # noqa: ARG002
            g = super().value_and_gradient(w).gradient
            g = g * min(1, 3.0 / (np.linalg.norm(g) + 1e-6))
            return Evaluated(np.clip(g, -0.4, 0.4), 1.0)

    options = {"weight_decay": 0.1, "average": 0.5}
    found = trained(with_options(method, clip_norm=3.0, clip_value=0.4, **options))[0]
    np.testing.assert_allclose(found, trained(with_options(method, **options), Clipped())[0], rtol=1e-9)
    assert not np.allclose(found, trained(with_options(method, **options))[0], rtol=1e-6)


@pytest.mark.parametrize("method", ALL, ids=lambda method: method.kind)
def test_a_rate_of_zero_leaves_a_layer_as_it_is(method):
    options = {"weight_decay": 0.1, "layer_rates": {"second/*": 0, "kernel": 0}}
    objective = Noisy()
    found = objective.named(trained(with_options(method, **options), objective)[0][-1])
    start = objective.named(objective.start)
    for name in SHAPES:
        frozen = name.startswith("second/") or name == "kernel"
        assert (found[name] == start[name]).all() == (frozen or name == "none"), name


@pytest.mark.parametrize("method", ALL, ids=lambda method: method.kind)
def test_decay_is_of_the_parameters_that_are_named(method):
    """It changes those and, until gradients notice, no other."""
    plain, *others = (
        Noisy().named(trained(with_options(method, **options), count=1)[0][0])
        for options in ({"weight_decay": 0.0}, {"weight_decay": 0.5}, {"weight_decay": 0.5, "decay": ("*/bias",)})
    )
    default, chosen = ({n for n in SHAPES if not np.array_equal(o[n], plain[n])} for o in others)
    changed = {name for name, shape in SHAPES.items() if len(shape) > 1 and name != "none"}
    if type(method) in (SGD, AdamW, LARS, LAMB, Lion, Muon):  # by others a first step is by the sign alone
        assert default == changed
        assert chosen == {"first/bias", "second/bias", "last/bias"}
    assert default <= changed
    assert all(name.endswith("bias") for name in chosen)


@pytest.mark.parametrize("method", ALL, ids=lambda method: method.kind)
def test_a_step_that_is_skipped_changes_nothing(method):
    """The others are as if it had not been."""
    options = {"weight_decay": 0.1, "average": 0.5, "when_not_finite": "skip"}

    class Late(Noisy):
        def noise(self, call):
            return super().noise(call - sum(b < call for b in self.bad))

    seen, state = trained(with_options(method, **options), Late(bad=(1, 4, 5)), count=STEPS + 3)
    expected, expected_state = trained(with_options(method, **options))
    assert (seen[0] == Noisy().start).all()
    assert (seen[4] == seen[2]).all()
    np.testing.assert_array_equal(seen[-1], expected[-1])
    np.testing.assert_array_equal(state.trained(seen[-1]), expected_state.trained(expected[-1]))
    assert state.numbers.pop("skipped") == 3
    assert expected_state.numbers.pop("skipped") == 0
    assert state.numbers == expected_state.numbers


def test_outcomes_of_steps_that_are_not_finite():
    for method, outcome in ((SGD(0.1), Outcome.NOT_FINITE), (SGD(0.1, when_not_finite="skip"), Outcome.SKIPPED)):
        objective, w = Noisy(bad=(1,)), np.ones(SIZE)
        assert (
            method.step(objective, w, State.of(method, lambda count: np.zeros((count, SIZE))), 1, 1.0).outcome
            is outcome
        )
        assert (w == 1).all()


@pytest.mark.parametrize("method", ALL, ids=lambda method: method.kind)
def test_pieces_do_not_show(method):
    """Parameters longer than a block, and options that cut them, against all of it in one piece."""
    shapes = {"a/weight": (BLOCK // 8, 9), "b/weight": (70, 500), "c/weight": (500, 3), "c/bias": (BLOCK + 3,)}
    objective = Noisy(np.float32, shapes=shapes)
    method = with_options(method, weight_decay=0.1, layer_rates={"b/*": 0.5}, average=0.9, clip_value=1.0)
    found = trained(method, objective, count=2)[0][-1]
    again = Noisy(np.float32, shapes=shapes)
    again.space.owned = [slice(i, i + 1000) for i in range(0, again.size, 1000)]
    again.space.owned[-1] = slice(again.space.owned[-1].start, again.size)
    np.testing.assert_array_equal(found, trained(method, again, count=2)[0][-1])


def test_a_gradient_beyond_float32_is_scaled_down():
    class Huge(Noisy):
        def value_and_gradient(self, w, early=False):  # noqa: ARG002
            return Evaluated(np.full_like(w, 1e30), 1.0)

    seen, _ = trained(SGD(1.0, clip_norm=1.0), Huge(np.float32), count=1)
    assert np.linalg.norm(seen[0] - Huge(np.float32).start) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(0.1, nesterov=True), "nesterov needs momentum, but momentum is 0; set it"),
        (lambda: SGD(0.1, weight_decay=-1), "weight_decay must be a number and not negative, but is -1"),
        (lambda: Adam(clip_norm=-1), "clip_norm must be a number and not negative"),
        (lambda: Adam(clip_value=math.inf), "clip_value must be a number and not negative, but is inf"),
        (lambda: Adam(average=1.0), "average must be at least 0 and below 1, but is 1"),
        (lambda: Adam(layer_rates={"a": -1}), "the factor of layer_rates for 'a' must be a number and not negative"),
        (lambda: Adam(when_not_finite="stopp"), "unknown when_not_finite 'stopp'; did you mean 'stop'"),
        (lambda: Muon(adamw_learning_rate=0), "adamw_learning_rate must be a positive number, but is 0"),
        (lambda: Muon(momentum=1), "momentum must be"),
        (lambda: Lion(beta2=1), "beta2 must be"),
        (lambda: LARS(0.1, trust=0), "trust must be positive, but is 0"),
        (lambda: RMSprop(alpha=1), "alpha must be"),
        (lambda: NAdam(momentum_decay=-1), "momentum_decay must be"),
        (lambda: Adagrad(epsilon=0), "epsilon must be positive"),
        (
            lambda: Adam(decay=("frist/*",)).check(SHAPES),
            r"optimizer: decay must name parameters of the model, but has",
        ),
        (lambda: Adam(layer_rates={"frist/bias": 1}).check(SHAPES), "'frist/bias'; the nearest name is 'first/bias'"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_without_options_nothing_more_is_kept():
    for method in ALL:
        assert "average" not in method.vectors
        assert "skipped" not in method.numbers()
    assert SGD(0.1).vectors == ()
    assert trained(SGD(0.1), Noisy(), 1)[1].vectors == {}
    assert BOWL.minimum is None
