"""Learning-rate schedules: as PyTorch's, and by their definitions."""

import math

import numpy as np
import pytest

from dbp.errors import UserError
from dbp.optim import (
    SCHEDULES,
    Constant,
    Cosine,
    Exponential,
    OneCycle,
    Plateau,
    Polynomial,
    StepDecay,
    as_schedule,
)

STEPS = 40


def factors(schedule, steps=STEPS):
    return [schedule.factor(t, steps) for t in range(steps)]


def torch_factors(kind, **options):
    """Return the factors of a PyTorch schedule on a learning rate of 1."""
    torch = pytest.importorskip("torch", reason="torch is not installed, so there is nothing to compare with")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = getattr(torch.optim.lr_scheduler, kind)(optimizer, **options)
    for _ in range(STEPS):
        yield optimizer.param_groups[0]["lr"]
        optimizer.step()
        if schedule.last_epoch < STEPS - 1:
            schedule.step()


@pytest.mark.parametrize(
    ("schedule", "kind", "options"),
    [
        (Constant(), "ConstantLR", {"factor": 1.0}),
        (StepDecay(every_steps=7, gamma=0.5), "StepLR", {"step_size": 7, "gamma": 0.5}),
        (Exponential(gamma=0.9), "ExponentialLR", {"gamma": 0.9}),
        (Polynomial(power=2.0), "PolynomialLR", {"total_iters": STEPS - 1, "power": 2.0}),
        (Cosine(final_factor=0.1), "CosineAnnealingLR", {"T_max": STEPS - 1, "eta_min": 0.1}),
        (
            OneCycle(),
            "OneCycleLR",
            {"max_lr": 1.0, "total_steps": STEPS, "cycle_momentum": False},
        ),
        (
            OneCycle(rise=0.5, initial_factor=0.1, final_factor=0.01),
            "OneCycleLR",
            {"max_lr": 1.0, "total_steps": STEPS, "pct_start": 0.5, "div_factor": 10, "final_div_factor": 10}
            | {"cycle_momentum": False},
        ),
    ],
    ids=str,
)
def test_as_pytorch(schedule, kind, options):
    np.testing.assert_allclose(factors(schedule), list(torch_factors(kind, **options)), rtol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"patience": 0, "cooldown": 2},
        {"patience": 2, "threshold": 0.1},
        {"patience": 1, "gamma": 0.5, "cooldown": 1, "final_factor": 0.2},
    ],
    ids=str,
)
def test_plateau_as_pytorch(options):
    torch = pytest.importorskip("torch", reason="torch is not installed, so there is nothing to compare with")
    rng = np.random.default_rng(0)
    costs = list(np.geomspace(3, 1, 90).clip(1.5) + 0.3 * rng.random(90))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    names = {"gamma": "factor", "final_factor": "min_lr"}
    options_there = {names.get(name, name): value for name, value in options.items()}
    there = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, eps=0, **options_there)
    for epoch in range(len(costs) + 1):
        found = Plateau(**options).factor(10 * epoch, 1000, costs[:epoch])
        assert found == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12, abs=1e-8)
        if epoch < len(costs):
            there.step(costs[epoch])
    assert found < 1


def test_a_cost_that_is_no_number_is_no_better_one():
    assert Plateau(patience=1).factor(0, 9, [1.0, np.nan, np.nan]) == 0.1
    assert Plateau(patience=1).factor(0, 9, [np.nan, 1.0, 0.9]) == 1.0


@pytest.mark.parametrize("kind", sorted(SCHEDULES))
def test_warm_up_in_front_of_any(kind):
    """The rate rises linearly to the start of the schedule, which takes the remaining steps."""
    plain, warm = factors(SCHEDULES[kind](), 20), factors(SCHEDULES[kind](warmup_steps=4), 24)
    np.testing.assert_allclose(warm[:4], [plain[0] * (t + 1) / 5 for t in range(4)])
    assert warm[4:] == plain


@pytest.mark.parametrize("kind", sorted(SCHEDULES))
def test_short_runs(kind):
    for steps in (1, 2, 3):
        for warmup in (0, 5):
            assert all(0 <= factor <= 1 for factor in factors(SCHEDULES[kind](warmup_steps=warmup), steps))


@pytest.mark.parametrize("kind", SCHEDULES)
def test_a_horizon_of_its_own(kind):
    """Ask every schedule: those that come to a final factor have one, that of the run or their own."""
    schedule = SCHEDULES[kind]()
    if kind not in ("polynomial", "cosine", "one_cycle"):
        assert schedule.horizon(5) is None
        return
    assert schedule.horizon(5) == 5
    assert SCHEDULES[kind](epochs=3).horizon(5) == 3
    assert [schedule.factor(step, 3) for step in (3, 4, 50)] == [schedule.factor(2, 3)] * 3
    with pytest.raises(UserError, match=r"schedule.epochs must be at least 0, but is -1"):
        SCHEDULES[kind](epochs=-1)


def test_ends():
    assert factors(Polynomial(final_factor=0.25))[-1] == 0.25
    assert factors(OneCycle())[-1] == pytest.approx(4e-6)
    assert factors(OneCycle(rise=1.0))[-1] == 1.0
    assert factors(OneCycle(rise=0.0))[0] == 1.0
    assert factors(OneCycle(final_factor=0.0, rise=0.9), 10)[-1] == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StepDecay(every_steps=0), "every_steps must be at least 1, but is 0"),
        (lambda: StepDecay(gamma=1.5), "gamma must be at least 0 and at most 1, but is 1.5"),
        (lambda: Exponential(gamma=-1), "gamma must be at least 0 and at most 1"),
        (lambda: Polynomial(power=0), "power must be a positive number, but is 0"),
        (lambda: OneCycle(rise=2), "rise must be at least 0 and at most 1, but is 2"),
        (lambda: Plateau(patience=-1), "patience must be at least 0, but is -1"),
        (lambda: Plateau(warmup_steps=-1), "warmup_steps must not be negative, but is -1"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_constant_schedule_warms_up():
    factors = [Constant(warmup_steps=3).factor(t, 10) for t in range(6)]
    assert factors == [0.25, 0.5, 0.75, 1, 1, 1]


def test_cosine_schedule():
    schedule = Cosine(warmup_steps=2, final_factor=0.1)
    factors = [schedule.factor(t, 13) for t in range(13)]
    assert factors[:3] == [1 / 3, 2 / 3, 1]
    assert factors[7] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 2)) / 2)
    assert factors[-1] == pytest.approx(0.1)
    assert factors[2:] == sorted(factors[2:], reverse=True)
    assert Cosine().factor(0, 1) == 1


def test_a_function_is_a_schedule():
    schedule = as_schedule(lambda step, steps: 1 - step / steps)
    assert factors(schedule) == [1 - t / STEPS for t in range(STEPS)]
    assert as_schedule(Cosine()) == Cosine()


@pytest.mark.parametrize("factor", [-1.0, math.nan, math.inf, None])
def test_a_function_that_returns_no_factor_is_refused(factor):
    with pytest.raises(UserError, match=r"must return a factor of 0 or more, but at step 3 of 40 it returned "):
        as_schedule(lambda step, steps: factor).factor(3, STEPS)


def test_a_function_of_something_else_is_refused():
    with pytest.raises(
        UserError, match=r"schedule must be a function of the step and the number of steps, but takes \(step\)"
    ):
        as_schedule(lambda step: 1.0)
