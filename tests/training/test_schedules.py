"""Learning rates are those of torch's own schedulers, step by step."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine, Events

from volseg.bundle import OPTIMIZERS as OPTIMIZER_NAMES
from volseg.bundle import SCHEDULES as SCHEDULE_NAMES
from volseg.errors import UnknownNameError
from volseg.training import LearningRate, TrainingClock, build_optimizer
from volseg.training.optimizers import OPTIMIZERS
from volseg.training.schedules import SCHEDULES

STEPS = 400


def optimizer(name="adamw"):
    return build_optimizer(name, [torch.nn.Parameter(torch.zeros(2))], learning_rate=0.1)


def rates_of_ours(schedule, name="adamw"):
    """Learning rate and momentum before each step of an engine."""
    ours, clock, found = optimizer(name), TrainingClock(), []
    engine = Engine(lambda engine, batch: None)
    clock.attach(engine)
    LearningRate(ours, schedule, clock).attach(engine)

    @engine.on(Events.ITERATION_COMPLETED)
    def note():
        group = ours.param_groups[0]
        found.append((group["lr"], group["betas"][0] if "betas" in group else group["momentum"]))

    engine.run([0] * (STEPS // 4), max_epochs=4)
    return found


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize(
    ("schedule", "theirs"),
    [
        (
            "onecycle",
            lambda one: torch.optim.lr_scheduler.OneCycleLR(
                one, max_lr=0.1, total_steps=STEPS, pct_start=0.1
            ),
        ),
        (
            "poly",
            lambda one: torch.optim.lr_scheduler.PolynomialLR(one, total_iters=STEPS, power=0.9),
        ),
        (
            "cosine",
            lambda one: torch.optim.lr_scheduler.SequentialLR(
                one,
                [
                    torch.optim.lr_scheduler.LinearLR(one, 1 / 25, total_iters=STEPS // 10),
                    torch.optim.lr_scheduler.CosineAnnealingLR(one, STEPS - STEPS // 10),
                ],
                [STEPS // 10],
            ),
        ),
        ("constant", lambda one: torch.optim.lr_scheduler.ConstantLR(one, 1.0)),
    ],
)
def test_a_schedule_is_that_of_torch(schedule, theirs):
    reference = optimizer()
    scheduler = theirs(reference)
    for rate, momentum in rates_of_ours(schedule):
        group = reference.param_groups[0]
        # OneCycleLR counts its steps from the first to the last, which differs by half of one.
        assert rate == pytest.approx(group["lr"], abs=1e-9 if schedule != "onecycle" else 3e-3)
        assert momentum == pytest.approx(group["betas"][0], abs=4e-3)
        scheduler.step()


def test_momentum_of_sgd_goes_with_onecycle_only():
    assert {momentum for _, momentum in rates_of_ours("poly", "sgd")} == {0.0}
    momenta = [momentum for _, momentum in rates_of_ours("onecycle", "sgd")]
    assert min(momenta) == pytest.approx(0.85, abs=1e-3)


def test_a_time_budget_is_what_the_rate_follows():
    ours, clock = optimizer(), TrainingClock(seconds=10)
    clock.load_state_dict({"seconds": 5.0, "between_epochs": 0.0})
    engine = Engine(lambda engine, batch: engine.terminate())
    LearningRate(ours, "poly", clock).attach(engine)
    engine.run([0])
    assert ours.param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**0.9)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_minimises(name):
    weights = torch.nn.Parameter(torch.full((3,), 2.0))
    ours = build_optimizer(name, [weights], learning_rate=0.05, momentum=0.9)
    for _ in range(100):
        ours.zero_grad()
        (weights**2).sum().backward()
        ours.step()
    assert weights.abs().max() < 0.2


def test_the_names_that_are_accepted_are_those_that_exist():
    assert set(OPTIMIZER_NAMES) == set(OPTIMIZERS)
    assert set(SCHEDULE_NAMES) == set(SCHEDULES)
    with pytest.raises(UnknownNameError, match="cosine"):
        LearningRate(optimizer(), "cosin", TrainingClock())
    with pytest.raises(UnknownNameError, match="adamw"):
        build_optimizer("adamv", [], learning_rate=1.0)
