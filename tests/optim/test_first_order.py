"""Options that all first-order methods share, and known minima."""

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
from dbp.optim.blockwise import CACHE_BLOCK
from tests.optim.functions import BOWL, Evaluated, logistic, quadratic, rosenbrock, steps
from tests.optim.noisy_objective import SHAPES, SIZE, STEPS, Noisy, trained

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
    """A step is as if the gradient had been clipped before."""

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
def test_decay_is_of_the_parameters_that_are_named(method):
    """Decay changes those and, until gradients notice, no others."""
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
def test_a_step_that_is_not_finite_changes_nothing(method):
    """If it is not counted, later steps are as if it had never been."""
    options = {"weight_decay": 0.1, "average": 0.5}

    class Late(Noisy):
        def noise(self, call):
            return super().noise(call - sum(b < call for b in self.bad))

    seen, state = trained(with_options(method, **options), Late(bad=(1, 4, 5)), count=STEPS + 3)
    expected, expected_state = trained(with_options(method, **options))
    assert (seen[0] == Noisy().start).all()
    assert (seen[4] == seen[2]).all()
    np.testing.assert_array_equal(seen[-1], expected[-1])
    np.testing.assert_array_equal(state.inference_weights(seen[-1]), expected_state.inference_weights(expected[-1]))
    assert state.numbers == expected_state.numbers


def test_the_outcome_of_a_step_that_is_not_finite():
    objective, w = Noisy(bad=(1,)), np.ones(SIZE)
    state = State.of(SGD(0.1), lambda count: np.zeros((count, SIZE)))
    step = SGD(0.1).step(objective, w, state, 1, 1.0)
    assert step.outcome is Outcome.NOT_FINITE
    assert not step.done
    assert (w == 1).all()


@pytest.mark.parametrize("method", ALL, ids=lambda method: method.kind)
def test_pieces_do_not_show(method):
    """Parameters longer than a block, with options that divide them, equal an update in one piece."""
    shapes = {
        "a/weight": (CACHE_BLOCK // 8, 9),
        "b/weight": (70, 500),
        "c/weight": (500, 3),
        "c/bias": (CACHE_BLOCK + 3,),
    }
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
        (lambda: SGD(0.1, weight_decay=-1), "weight_decay must be 0 or a positive number, but is -1"),
        (lambda: Adam(clip_norm=-1), "clip_norm must be 0 or a positive number"),
        (lambda: Adam(clip_value=math.inf), "clip_value must be 0 or a positive number, but is inf"),
        (lambda: Adam(average=1.0), "average must be at least 0 and below 1, but is 1"),
        (lambda: Adam(layer_rates={"a": -1}), "the factor of layer_rates for 'a' must be a positive number"),
        (lambda: Adam(layer_rates={"a": 0}), r'must not be 0; to keep parameters .* set frozen = \["a"\] beside'),
        (lambda: Muon(adamw_learning_rate=0), "adamw_learning_rate must be a positive number, but is 0"),
        (lambda: Muon(momentum=1), "momentum must be"),
        (lambda: Lion(beta2=1), "beta2 must be"),
        (lambda: LARS(0.1, trust=0), "trust must be a positive number, but is 0"),
        (lambda: RMSprop(alpha=1), "alpha must be"),
        (lambda: NAdam(momentum_decay=-1), "momentum_decay must be"),
        (lambda: Adagrad(epsilon=0), "epsilon must be a positive number"),
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
    assert SGD(0.1).vectors == ()
    assert trained(SGD(0.1), Noisy(), 1)[1].vectors == {}
    assert BOWL.minimum is None
