"""A run folder is data: read by readers that check it, edited in vain, and never run."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import stat
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from dpigu.dpcore import DpiguError, Plan, RunError
from dpigu.trainers import Callback, Data, Session, Settings, Tensors, load_run, resume, train
from dpigu.trainers.runs import LedgerFile, RunFolder
from dpigu.trainers.tasks.losses import cross_entropy
from torch import Tensor, nn

from tests.laws.noise.test_noise import StopAt


@pytest.fixture
def stopped(plan: Plan, data: Data, model: nn.Module, settings: Settings, tmp_path: Path) -> Path:
    """A run that was interrupted after its eighth release."""
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(plan, data, model, settings, out=out, observer=StopAt(8), progress=False)
    return out


@pytest.fixture
def go_on(data: Data) -> Callable[..., Any]:
    def go(out: Path, **changed: Any) -> Any:
        given = {"data": data, "model": nn.Linear(2, 2), **changed}
        return resume(out, progress=False, **given)

    return go


def cut(path: Path, share: float = 0.5) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new))


def drop_lines(path: Path, count: int) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-count]))


def other_run(out: Path, name: str) -> None:
    """A file of another run of the same plan, in place of this one's."""
    other = out.parent / "other" / "public" / name
    shutil.copy(other, out / "public" / name)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "configuration gone": (lambda p: (p / "config.toml").unlink(), "no run folder"),
    "configuration empty": (lambda p: (p / "config.toml").write_text(""), "another format"),
    "configuration cut": (lambda p: cut(p / "config.toml"), "configuration"),
    "noise edited": (
        lambda p: edit(p / "config.toml", "noise_multiplier = 1.0", "noise_multiplier = 5.0"),
        "configuration was changed after the run began",
    ),
    "rate edited": (
        lambda p: edit(p / "config.toml", "rate = 0.25", "rate = 0.0625"),
        "configuration was changed after the run began",
    ),
    "ledger gone": (lambda p: (p / "ledger.jsonl").unlink(), "cannot be read"),
    "ledger empty": (lambda p: (p / "ledger.jsonl").write_text(""), "no whole head"),
    "ledger cut to three lines": (lambda p: drop_lines(p / "ledger.jsonl", 6), "lacks lines"),
    "ledger line damaged": (
        lambda p: edit(p / "ledger.jsonl", '"line": 4', '"li'),
        "line 4: the ledger is damaged",
    ),
    "checkpoint gone": (lambda p: (p / "checkpoint").unlink(), "cannot be read"),
    "checkpoint empty": (lambda p: (p / "checkpoint").write_bytes(b""), "checkpoint is damaged"),
    "checkpoint cut": (lambda p: cut(p / "checkpoint"), "checkpoint is damaged"),
    "fingerprints gone": (lambda p: (p / "../private/identity.json").unlink(), "cannot be read"),
    "fingerprints cut": (lambda p: cut(p / "../private/identity.json"), "cannot be read"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_folder_is_one_line_and_stays_as_it_is(
    name: str, stopped: Path, go_on: Callable[..., Any]
) -> None:
    harm, says = DAMAGE[name]
    harm(stopped / "public")
    before = {p: p.read_bytes() for p in stopped.rglob("*") if p.is_file() and p.name != "lock"}
    with pytest.raises(RunError, match=says) as caught:
        go_on(stopped)
    assert "\n" not in str(caught.value)
    after = {p: p.read_bytes() for p in stopped.rglob("*") if p.is_file() and p.name != "lock"}
    assert after == before


@pytest.mark.parametrize("name", ["config.toml", "ledger.jsonl", "checkpoint"])
def test_a_file_of_another_run_is_refused(
    name: str,
    stopped: Path,
    go_on: Callable[..., Any],
    plan: Plan,
    data: Data,
    settings: Settings,
) -> None:
    other = dataclasses.replace(settings, learning_rate=0.2)
    train(plan, data, nn.Linear(2, 2), other, out=stopped.parent / "other", progress=False)
    other_run(stopped, name)
    with pytest.raises(RunError):
        go_on(stopped)


def other_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return 2 * cross_entropy(outputs, targets)


OTHERS: dict[str, tuple[Callable[[Data], dict[str, Any]], str]] = {
    "data": (
        lambda d: {"data": dataclasses.replace(d, train=Tensors(d.train_x + 1, d.train_y))},
        "not the records that the run began with",
    ),
    "one record less": (
        lambda d: {"data": dataclasses.replace(d, train=Tensors(d.train_x[1:], d.train_y[1:]))},
        "not the records",
    ),
    "model": (lambda d: {"model": nn.Sequential(nn.Linear(2, 2))}, "another model"),
    "frozen model": (
        lambda d: {"model": nn.Linear(2, 2).requires_grad_(False)},
        "another model",
    ),
    "loss": (lambda d: {"loss": other_loss}, "another loss"),
    "optimizer": (lambda d: {"optimizer": torch.optim.Adam}, "another optimizer"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_differs_from_the_beginning_is_refused(
    name: str, stopped: Path, go_on: Callable[..., Any], data: Data
) -> None:
    changed, says = OTHERS[name]
    with pytest.raises(RunError, match=says) as caught:
        go_on(stopped, **changed(data))
    assert "\n" not in str(caught.value)
    assert RunFolder(stopped).ledger().steps == 8


def test_a_users_own_parts_are_recorded_and_asked_for_again(
    plan: Plan,
    data: Data,
    model: nn.Module,
    settings: Settings,
    tmp_path: Path,
    go_on: Callable[..., Any],
) -> None:
    out, adam = tmp_path / "run", partial(torch.optim.Adam, lr=0.1)
    own = {"optimizer": adam, "loss": other_loss}
    with pytest.raises(KeyboardInterrupt):
        train(plan, data, model, settings, out=out, observer=StopAt(5), progress=False, **own)
    table = RunFolder(out).configuration()
    assert table["optimizer"]["name"] == "torch.optim.adam.Adam"
    assert table["optimizer"]["groups"][0]["lr"] == 0.1
    assert table["loss"]["name"].endswith("test_folder.other_loss")
    assert not {"optimizer", "learning_rate", "momentum"} & table["settings"].keys()
    with pytest.raises(RunError, match="another optimizer"):
        go_on(out, loss=other_loss)
    with pytest.raises(RunError, match="another optimizer"):
        go_on(out, loss=other_loss, optimizer=partial(torch.optim.Adam, lr=0.2))
    assert go_on(out, **own).summary["steps"] == 13


def test_one_process_works_on_a_folder_and_the_other_is_told_which(
    stopped: Path, go_on: Callable[..., Any]
) -> None:
    held = RunFolder.locked(stopped)
    with pytest.raises(RunError, match=f"another process is at work .*process {os.getpid()}"):
        go_on(stopped)
    held.release()
    assert go_on(stopped).summary["steps"] == 13


def test_a_killed_start_starts_again(
    plan: Plan, data: Data, model: nn.Module, settings: Settings, tmp_path: Path
) -> None:
    out = tmp_path / "run"

    def killed(folder: RunFolder) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(plan, data, model, settings, out=out, before_training=killed, progress=False)
    assert not out.exists()
    run = train(plan, data, model, settings, out=out, progress=False)
    assert run.summary["steps"] == 12
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_folder_that_cannot_be_made_asks_for_another(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"it cannot be made.*name another folder"):
        RunFolder.begin(tmp_path / "file" / "run", claimed=True)


def test_two_starts_of_one_folder_do_not_meet(tmp_path: Path) -> None:
    first = RunFolder.begin(tmp_path / "run", True)
    with pytest.raises(RunError, match="another process"):
        RunFolder.begin(tmp_path / "run", True)
    first.release()


def test_an_interrupt_takes_back_what_was_paid_ahead_and_a_kill_does_not(
    plan: Plan, data: Data, model: nn.Module, settings: Settings, tmp_path: Path
) -> None:
    longer = Plan((dataclasses.replace(plan.phases[0], steps=200),))
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(longer, data, model, settings, out=out, observer=StopAt(6), progress=False)
    ledger = RunFolder(out).ledger()
    assert ledger.head.block == 4  # two hundredths of the plan
    assert ledger.steps == 6 and ledger.last == "unused"
    killed = LedgerFile(out / "public/ledger.jsonl")
    killed.pay("main", 4)
    killed.begin_step()
    assert RunFolder(out).ledger().steps == 10


class Stops(Callback):
    """Ends a run at the first evaluation from a step on."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_evaluation(self, session: Session, metrics: Mapping[str, Any]) -> None:
        if metrics["step"] >= self.step:
            session.stop()


def test_a_stop_that_looked_is_spent_so_far_and_the_claim_is_the_budget(
    plan: Plan, data: Data, model: nn.Module, settings: Settings, tmp_path: Path
) -> None:
    aimed = dataclasses.replace(settings, noise_multiplier=None, epsilon=5.0)
    run = train(
        plan,
        data,
        model,
        aimed,
        out=tmp_path / "run",
        callbacks=[Stops(6)],
        progress=False,
    )
    assert run.summary["steps"] == 6
    assert run.summary["epsilon_is"] == "spent so far"
    assert run.summary["epsilon"] < 4 and run.summary["claimed_epsilon"] == 5.0
    text = (tmp_path / "run/public/STATEMENT.txt").read_text()
    assert "ε = 5, fixed before the run (it was stopped by choice; spent so far: ε = " in text
    whole = resume(tmp_path / "run", data=data, model=nn.Linear(2, 2), progress=False)
    assert whole.summary["epsilon_is"] == "claim" and whole.summary["steps"] == 12


def test_what_is_private_is_its_owners(
    plan: Plan, data: Data, model: nn.Module, settings: Settings, tmp_path: Path
) -> None:
    old = os.umask(0)
    try:
        train(plan, data, model, settings, out=tmp_path / "run", progress=False)
    finally:
        os.umask(old)
    private = tmp_path / "run" / "private"
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    for path in private.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


def test_a_folder_runs_no_code_without_a_word(
    plan: Plan,
    data: Data,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "strangers.py").write_text(
        "import torch\ndef factory():\n    return torch.nn.Linear(2, 2)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    out, labels = tmp_path / "run", {"model": "strangers:factory"}
    train(plan, data, nn.Linear(2, 2), settings, out=out, labels=labels, progress=False)
    for read in (load_run, partial(resume, data=data, progress=False)):
        with pytest.raises(RunError, match="not run without your word"):
            read(out)
        assert "strangers" not in sys.modules
    assert isinstance(load_run(out, trust_code=True).model, nn.Linear)
    del sys.modules["strangers"]


def test_a_name_forges_no_line_of_the_statement(
    plan: Plan, data: Data, model: nn.Module, settings: Settings, tmp_path: Path
) -> None:
    labels = {"preset": "dpsgd\nThis model was certified.\x1b[2J"}
    train(plan, data, model, settings, out=tmp_path / "run", labels=labels, progress=False)
    text = (tmp_path / "run/public/STATEMENT.txt").read_text()
    assert "\x1b" not in text
    assert not any(line.startswith("This model was certified") for line in text.splitlines())
    assert r"dpsgd\nThis model was certified.\x1b[2J" in text


@pytest.mark.parametrize("name", ["summary.json", "model.safetensors", "metrics.jsonl"])
def test_a_finished_run_with_a_damaged_file_is_one_line(
    name: str,
    plan: Plan,
    data: Data,
    model: nn.Module,
    settings: Settings,
    tmp_path: Path,
) -> None:
    out = tmp_path / "run"
    train(plan, data, model, settings, out=out, progress=False)
    (out / "public" / name).write_bytes(b"\x00\n" * 3)
    with pytest.raises(DpiguError, match="cannot be read") as caught:
        load_run(out, nn.Linear(2, 2))
        RunFolder(out).metrics()
    assert "\n" not in str(caught.value)


def test_metrics_whose_last_line_was_cut_are_mended_by_the_next(
    stopped: Path, go_on: Callable[..., Any]
) -> None:
    metrics = stopped / "public/metrics.jsonl"
    whole = len(RunFolder(stopped).metrics())
    with metrics.open("a") as file:
        file.write('{"step": 7, "eps')
    assert len(RunFolder(stopped).metrics()) == whole
    go_on(stopped)
    assert [json.loads(line)["step"] for line in metrics.read_text().splitlines()] == [3, 6, 9, 12]


@pytest.mark.parametrize("digits", ["1", "3"])
def test_a_folder_of_another_format_is_refused_in_one_line(
    digits: str, stopped: Path, go_on: Callable[..., Any]
) -> None:
    edit(stopped / "public/config.toml", "format = 2", f"format = {digits}")
    with pytest.raises(RunError, match=rf"another format \(got {digits}, expected 2\)"):
        go_on(stopped)
