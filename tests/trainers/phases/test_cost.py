"""What a run will take is found without a record, without spending, and leaves no trace."""

from __future__ import annotations

import copy

import pytest
import torch
from dpigu.dpcore import Phase, Pipeline, Plan
from dpigu.mechanisms import Coherent, Flat, Gaussian, LinearUnfreeze, non_private
from dpigu.trainers import Callback, Data, Session, Settings, train
from dpigu.trainers.phases.reading import Records
from torch import nn

SCORED = Plan(
    (
        Phase("learn", Pipeline(Flat(bound=1.0), Gaussian(), scorer=Coherent()), 3),
        Phase(
            "main", Pipeline(Flat(bound=1.0), Gaussian(), scheduler=LinearUnfreeze(ratio=0.5)), 4
        ),
    )
)


@pytest.mark.parametrize("plan", [SCORED, non_private(4)], ids=["two phases", "without noise"])
def test_a_trial_reads_no_record_and_leaves_weights_and_ledger(
    plan: Plan, data: Data, model: nn.Module, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> None:
        raise AssertionError("a record was read")

    settings = settings if plan is SCORED else Settings(expected_batch=settings.expected_batch)
    session = Session(plan, data, model, settings)
    before, drawn = copy.deepcopy(session.model.state_dict()), torch.get_rng_state()
    with monkeypatch.context() as patch:
        patch.setattr(Records, "microbatches", read)
        cost = session.expected_cost()
    assert cost is not None and cost.seconds > 0 and cost.bytes > 2**20
    assert all(torch.equal(before[n], v) for n, v in session.model.state_dict().items())
    assert torch.equal(drawn, torch.get_rng_state())
    assert session.spent in (0.0, None) and session.reached == 0
    with session:
        assert [step.number for step in session] == list(range(1, session.steps + 1))


def test_the_time_grows_with_the_steps_that_are_left(
    data: Data, model: nn.Module, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock that ticks once a reading a trial takes one second, two microbatches no more."""
    from dpigu.trainers.phases import cost as module

    ticks = iter(range(1000))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(ticks)))
    cost = Session(SCORED, data, model, settings).expected_cost()
    assert cost is not None and cost.seconds == SCORED.steps


def test_a_callback_hears_of_the_beginning_before_anything_is_spent(
    plan: Plan, data: Data, model: nn.Module, settings: Settings
) -> None:
    heard: list[tuple[str, object]] = []

    class Listener(Callback):
        def on_begin(self, session: Session) -> None:
            heard.append(("begin", session.spent))

        def on_step(self, session: Session, step: object) -> None:
            heard.append(("step", None))

    train(plan, data, model, settings, callbacks=[Listener()], progress=False)
    assert heard[0] == ("begin", 0.0) and heard.count(heard[0]) == 1
