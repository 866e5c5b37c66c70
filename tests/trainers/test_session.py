"""A session is `train` with the loop in the user's hands: same ledger, same law, same folder."""

from __future__ import annotations

import dataclasses
import gc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from dpigu.dpcore import (
    ConfigurationError,
    Phase,
    Pipeline,
    Plan,
    ReproducibleNoise,
    RunError,
    SelectiveUpdate,
)
from dpigu.mechanisms import Flat, Gaussian, LossChange, Threshold, training_accuracy
from dpigu.trainers import Callback, Data, Session, Settings, Step, resume, train
from dpigu.trainers.calibration import epsilon_of_ledger
from dpigu.trainers.runs import RunFolder
from torch import Tensor, nn

from tests.support.laws.data import linear, points, settings_of


def flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def of_steps(steps: int, **options: Any) -> Plan:
    return Plan((Phase("main", Pipeline(Flat(bound=1.0), Gaussian(), **options), steps),))


def sgd(model: nn.Module, momentum: float = 0.9) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum)


def looked_at(steps: int) -> Plan:
    """Two phases that start anew, the second with looks; then a measured accuracy."""
    look = SelectiveUpdate(
        Pipeline(Flat(bound=1.0), Gaussian(noise_multiplier=4.0), statistic=LossChange()),
        Threshold(below=0.0),
    )
    pipeline = Pipeline(Flat(bound=1.0), Gaussian())
    return training_accuracy(
        Plan(
            (
                Phase("first", pipeline, 2),
                Phase("main", pipeline, steps, inherits=(), selective_update=look),
            )
        )
    )


@pytest.mark.numerical
@pytest.mark.parametrize("average", ["none", "ema"])
def test_with_fixed_noise_a_session_trains_as_train_does(tmp_path: Path, average: str) -> None:
    everyone = dataclasses.replace(settings_of(), expected_batch=None, rate=1.0, average=average)
    plan, noise = looked_at(3), ReproducibleNoise
    ours = train(
        plan, points(), linear(), everyone, noise=noise(3), out=tmp_path / "a", progress=False
    )
    model = linear()
    with Session(plan, points(), model, everyone, noise=noise(3), out=tmp_path / "b") as session:
        optimizer, taken = sgd(model), []
        for step in session:
            taken.append((step.number, step.phase))
            step.apply(optimizer)
    assert [number for number, _ in taken] == list(range(1, plan.steps + 1))
    assert [name for _, name in taken[:6]] == [*["first"] * 2, *["main"] * 3, "training-accuracy"]
    assert torch.equal(flat(ours.model), flat(model))
    a, b = (RunFolder(tmp_path / name) for name in "ab")
    assert a.ledger().charged == b.ledger().charged
    assert a.ledger().ended == b.ledger().ended == "plan"
    for name in ("metrics.jsonl", "decisions.jsonl"):
        assert (a.public / name).read_bytes() == (b.public / name).read_bytes()
    different = {k for k in ours.summary if ours.summary[k] != session.summary[k]}
    assert different <= {"seed"}


@pytest.mark.numerical
def test_gradients_are_the_noised_sum_over_the_expected_batch() -> None:
    settings = dataclasses.replace(settings_of(), expected_batch=None, rate=1.0)
    model, data = linear(), points()
    plan = Plan((Phase("main", Pipeline(Flat(bound=0.1), Gaussian()), 1),))
    loss, rows = nn.CrossEntropyLoss(), []
    for x, y in zip(data.train_x, data.train_y, strict=True):
        model.zero_grad()
        loss(model(x[None]), y[None]).backward()
        row = torch.cat([p.grad.flatten().double() for p in model.parameters()])
        rows.append(row * min(1.0, 0.1 / float(row.norm())))
    model.zero_grad()
    with Session(plan, data, model, settings, noise=ReproducibleNoise(0)) as session:
        for step in session:
            assert step.gradients.keys() == dict(model.named_parameters()).keys()
            got = torch.cat([g.flatten().double() for g in step.gradients.values()])
            noise = 120 * got - torch.stack(rows).sum(0)
            std = 120 * step.release.gradient.variance.sqrt()
            assert ((noise / std).abs() < 6).all() and float(noise.norm()) > 0
            assert float(std.max()) == pytest.approx(0.1, rel=1e-3)
            step.gradients["weight"].zero_()  # a copy: the release stays what it is
            again = torch.cat([g.flatten().double() for g in step.gradients.values()])
            assert torch.equal(got, again)


@pytest.mark.numerical
def test_an_update_by_hand_is_an_update() -> None:
    everyone = dataclasses.replace(
        settings_of(), expected_batch=None, rate=1.0, momentum=0.0, learning_rate=0.1
    )
    ours = train(
        of_steps(4), points(), linear(), everyone, noise=ReproducibleNoise(1), progress=False
    )
    model = linear()
    with Session(of_steps(4), points(), model, everyone, noise=ReproducibleNoise(1)) as session:
        for step in session:
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    parameter.sub_(0.1 * step.gradients[name])
    torch.testing.assert_close(flat(ours.model), flat(model))


def test_a_stop_keeps_the_claim_and_says_what_was_spent(tmp_path: Path) -> None:
    aimed = dataclasses.replace(settings_of(), noise_multiplier=None, epsilon=3.0)
    with Session(of_steps(200), points(), linear(), aimed, out=tmp_path / "run") as session:
        assert session.spent == 0 and session.epsilon == 3.0 and session.steps == 200
        for step in session:
            step.apply()
            if step.number == 6:
                assert 0 < session.spent < 1
                session.stop()
    folder = RunFolder(tmp_path / "run")
    assert session.reached == 6 and session.epsilon == 3.0
    assert folder.ledger().steps == 6 and folder.ledger().ended == "choice"  # the block was 4 long
    assert session.summary["epsilon"] == session.spent == epsilon_of_ledger(folder.ledger()).value
    assert session.summary["claimed_epsilon"] == 3.0
    assert session.summary["epsilon_is"] == "spent so far"
    assert "it was stopped by choice" in (folder.public / "STATEMENT.txt").read_text()
    with Session.resume(tmp_path / "run", data=points(), model=nn.Linear(2, 2)) as session:
        assert session.reached == 6
        for step in session:
            step.apply()
    assert session.summary["steps"] == 200 and session.summary["epsilon_is"] == "claim"


@pytest.mark.parametrize("after", [0, 3])
def test_leaving_the_block_early_is_a_stop(tmp_path: Path, after: int) -> None:
    with Session(of_steps(12), points(), linear(), settings_of(), out=tmp_path / "run") as session:
        for step in session:
            if step.number > after:
                break
            step.apply()
    ran = 1 if after == 0 else after + 1
    assert session.summary["steps"] == session.reached == ran
    assert session.summary["stopped_early"]
    assert RunFolder(tmp_path / "run").ledger().ended == "choice"


def test_a_session_without_a_step_spends_nothing(tmp_path: Path) -> None:
    with Session(of_steps(12), points(), linear(), settings_of(), out=tmp_path / "run") as session:
        pass
    assert session.summary["steps"] == 0 and session.summary["epsilon"] == 0
    assert (tmp_path / "run/public/STATEMENT.txt").exists()


def test_an_exception_in_the_loop_leaves_a_folder_that_resumes(tmp_path: Path) -> None:
    out, model = tmp_path / "run", linear()
    with (
        pytest.raises(ZeroDivisionError),
        Session(of_steps(200), points(), model, settings_of(), out=out) as session,
    ):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        for step in session:
            step.apply(optimizer)
            1 / (10 - step.number)
    assert RunFolder(out).ledger().steps == 10  # what was paid ahead is taken back
    with pytest.raises(RunError, match="no summary"):
        _ = session.summary
    with pytest.raises(RunError, match=r"dpigu\.Session\.resume"):
        resume(out, data=points(), model=nn.Linear(2, 2), progress=False)
    model = nn.Linear(2, 2)
    with Session.resume(out, data=points(), model=model) as session:
        assert session.reached == 8
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        for step in session:
            step.apply(optimizer)
            if step.number == 9:
                assert int(optimizer.state[model.weight]["step"]) == 9  # its state came back
                session.stop()
    assert session.summary["steps"] == 11 and session.summary["repeated_steps"] == 2
    with (
        pytest.raises(RunError, match="state of another optimizer"),
        Session.resume(out, data=points(), model=nn.Linear(2, 2)) as session,
    ):
        for step in session:
            step.apply(sgd(session.model))


@pytest.mark.numerical
def test_an_optimizer_that_was_given_is_checkpointed_and_held_against_the_folder(
    tmp_path: Path,
) -> None:
    out, model = tmp_path / "run", linear()
    with Session(
        of_steps(4), points(), model, settings_of(), out=out, optimizer=sgd(model)
    ) as session:
        for step in session:
            step.apply()
            if step.number == 2:
                session.stop()
    before = session.optimizer.state[model.weight]["momentum_buffer"].clone()
    model = nn.Linear(2, 2)
    with pytest.raises(RunError, match="another optimizer"):
        Session.resume(out, data=points(), model=model)
    with pytest.raises(RunError, match="another optimizer"):
        Session.resume(out, data=points(), model=model, optimizer=sgd(model, momentum=0.5))
    moved = sgd(model)
    moved.param_groups[0]["lr"] = 0.05  # where the user's scheduler stands
    with Session.resume(out, data=points(), model=model, optimizer=moved) as session:
        for step in session:
            released = step.gradients["weight"]
            step.apply()
            break
    after = moved.state[model.weight]["momentum_buffer"]
    torch.testing.assert_close(after, 0.9 * before + released)
    assert moved.param_groups[0]["lr"] == 0.05


def test_a_learning_rate_scheduler_of_the_users_is_theirs() -> None:
    model, rates = linear(), []
    settings = dataclasses.replace(settings_of(), schedule="cosine", warmup=0.5)
    with Session(of_steps(6), points(), model, settings) as session:
        optimizer = sgd(model)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
        for step in session:
            step.apply(optimizer)
            rates.append(optimizer.param_groups[0]["lr"])
            scheduler.step()
    assert rates == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025, 0.025])


def test_a_constant_schedule_overwrites_no_learning_rate_in_train() -> None:
    made, rates = [], []

    def factory(parameters: Any) -> torch.optim.Optimizer:
        made.append(torch.optim.SGD(parameters, lr=0.1))
        return made[-1]

    class Halve(Callback):
        def on_step(self, session: Session, step: Step) -> None:
            rates.append(session.optimizer.param_groups[0]["lr"])
            session.optimizer.param_groups[0]["lr"] /= 2

    train(
        of_steps(3),
        points(),
        linear(),
        settings_of(),
        optimizer=factory,
        callbacks=[Halve()],
        progress=False,
    )
    assert rates == [0.1, 0.05, 0.025]


def test_a_step_is_applied_once_and_before_the_next() -> None:
    with Session(looked_at(2), points(), linear(), settings_of()) as session:
        steps = []
        for step in session:
            steps.append(step)
            step.apply()
            with pytest.raises(RunError, match="applied once"):
                step.apply()
            with pytest.raises(RunError, match="applied once"):
                steps[0].apply()
            if step.phase == "training-accuracy":
                with pytest.raises(RunError, match="a statistic"):
                    _ = step.gradients


def test_a_session_is_open_within_its_block_only() -> None:
    session = Session(of_steps(2), points(), linear(), settings_of())
    with pytest.raises(RunError, match="within its `with` block"):
        iter(session)
    with session:
        pass
    with pytest.raises(RunError, match="entered once"):
        session.__enter__()


def test_a_session_that_is_never_entered_keeps_nobody_out(tmp_path: Path) -> None:
    session = Session(of_steps(2), points(), linear(), settings_of(), out=tmp_path / "run")
    del session
    gc.collect()
    with Session.resume(tmp_path / "run", data=points(), model=nn.Linear(2, 2)) as session:
        for step in session:
            step.apply()
    assert session.summary["steps"] == 2


def test_a_folder_that_is_taken_is_refused_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No record is read, no noise is calibrated."""

    def late(*given: Any) -> None:
        raise AssertionError("looked at first")

    monkeypatch.setattr("dpigu.trainers.session.prepare", late)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(RunError, match="a run is there already"):
        Session(of_steps(2), points(), linear(), settings_of(), out=tmp_path)


def test_an_optimizer_of_another_model_is_refused() -> None:
    stranger = sgd(nn.Linear(2, 2))
    with pytest.raises(ConfigurationError, match="not the model's"):
        Session(of_steps(2), points(), linear(), settings_of(), optimizer=stranger)


def test_two_loops_on_one_session_are_one(tmp_path: Path) -> None:
    with Session(of_steps(5), points(), linear(), settings_of(), out=tmp_path / "run") as session:
        for step in session:
            step.apply()
            if step.number == 2:
                break
        assert [step.number for step in session] == [3, 4, 5]
    assert session.summary["steps"] == 5
    assert RunFolder(tmp_path / "run").ledger().ended == "plan"


class Told(Callback):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def on_step(self, session: Session, step: Step) -> None:
        self.told.append(("step", step.number))

    def on_evaluation(self, session: Session, metrics: Mapping[str, Any]) -> None:
        self.told.append(("evaluation", metrics["step"]))

    def on_end(self, session: Session, summary: Mapping[str, Any]) -> None:
        self.told.append(("end", summary["steps"]))


def test_callbacks_are_told_in_order(data: Data, model: nn.Module, settings: Settings) -> None:
    watch = Told()
    two = dataclasses.replace(settings, evaluations=2)
    train(of_steps(4), data, model, two, callbacks=[watch], progress=False)
    halves = [[("step", n), ("step", n + 1), ("evaluation", n + 1)] for n in (1, 3)]
    assert watch.told == [*halves[0], *halves[1], ("end", 4)]


@pytest.mark.parametrize("late", [False, True], ids=["before", "while it trains"])
def test_a_gradient_that_somebody_left_on_a_frozen_layer_moves_nothing(late: bool) -> None:
    data, model = points(), nn.Sequential(nn.Linear(2, 2), linear())
    frozen = model[0].requires_grad_(not late)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)

    def leave() -> None:
        frozen.requires_grad_(True)
        nn.functional.cross_entropy(model(data.train_x[:1]), data.train_y[:1]).backward()
        frozen.requires_grad_(False)

    leave()
    before = frozen.weight.detach().clone()
    with Session(of_steps(3), data, model, settings_of(), optimizer=optimizer) as session:
        for step in session:
            if late:
                leave()
            step.apply()
    assert torch.equal(frozen.weight, before)


def test_two_sessions_never_train_one_model_at_once() -> None:
    data, model = points(), linear()
    made = Session(of_steps(3), data, model, settings_of(), optimizer=sgd(model))
    other = Session(of_steps(3), data, model, settings_of(), optimizer=sgd(model))
    with made, pytest.raises(RunError, match="another run is training this model"):
        other.__enter__()
    late = Session(of_steps(3), data, model, settings_of(), optimizer=sgd(model))
    train(of_steps(3), data, model, settings_of(), progress=False)
    with pytest.raises(RunError, match="has trained this model since"):
        late.__enter__()
    third = train(of_steps(3), data, model, settings_of(), progress=False)
    assert len(third.summary["lineage"]) == 1


def test_frozen_weights_of_another_run_are_in_the_lineage_and_held_to_on_resume(
    tmp_path: Path,
) -> None:
    data, backbone = points(), linear()
    train(of_steps(3), data, backbone, settings_of(), progress=False)
    model = nn.Sequential(backbone.requires_grad_(False), linear())
    session = Session(of_steps(3), data, model, settings_of(), out=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt), session:
        for step in session:
            step.apply()
            raise KeyboardInterrupt
    assert len(RunFolder(tmp_path / "run").configuration()["lineage"]) == 1
    stranger = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), linear())
    with pytest.raises(RunError, match="another model"):
        Session.resume(tmp_path / "run", data=data, model=stranger)
    with Session.resume(tmp_path / "run", data=data, model=model) as session:
        for step in session:
            step.apply()
    assert len(session.summary["lineage"]) == 1


def test_a_forked_process_takes_no_step() -> None:
    data, model = points(), linear()
    with Session(of_steps(3), data, model, settings_of(), optimizer=sgd(model)) as session:
        for step in session:
            step.apply()
            break
        ledger = session._run.ledger
        ledger._process = -1  # as in a process that was forked from another
        with pytest.raises(RunError, match="forked process"):
            ledger.begin_step()
        ledger._process = os.getpid()


def test_an_optimizer_that_remembers_is_refused(tmp_path: Path) -> None:
    """Its momentum, from gradients that saw no noise, would move the model and be published."""
    data, model = points(), linear()
    optimizer = sgd(model)
    nn.functional.cross_entropy(model(data.train_x), data.train_y).backward()
    optimizer.step()
    with pytest.raises(ConfigurationError, match="remembers steps from before this run"):
        Session(of_steps(3), data, model, settings_of(), optimizer=optimizer, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
