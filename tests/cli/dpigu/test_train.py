"""`dpigu train`: what a run leaves behind, resuming it, and running its configuration again."""

from __future__ import annotations

import json
import typing
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from dpigu.audits.canaries.planting import load_plan
from dpigu.cli.dpigu.main import main
from dpigu.cli.dpigu.train.report import _privacy
from dpigu.mechanisms import PRESETS
from dpigu.trainers import Settings, load_data, load_run, loop, recipe_from_file
from dpigu.trainers.lifecycle.run import OpenRun
from dpigu.trainers.phases import phase
from dpigu.trainers.runs import LedgerFile, RunFolder

from tests.support.dpigu_command import TINY, dpigu, one_line, strict_json, train

PUBLIC = {
    "README.txt",
    "STATEMENT.txt",
    "checkpoint",
    "config.toml",
    "ledger.jsonl",
    "metrics.jsonl",
    "model.safetensors",
    "run.png",
    "summary.json",
    "versions.json",
}


def summary_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = strict_json((out / "public" / "summary.json").read_text())
    return found


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [strict_json(line) for line in path.read_text().splitlines()]


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int, error: BaseException) -> None:
    """Let the optimizer's step fail, after the release was charged and made."""
    real, calls = phase.masked_step, iter(range(1, 10**6))

    def failing(*args: Any, **kwargs: Any) -> None:
        if next(calls) == step:
            raise error
        real(*args, **kwargs)

    monkeypatch.setattr(phase, "masked_step", failing)


def test_a_run_says_what_it_reached_and_what_it_cost(tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = dpigu(
        "train", "--preset", "adadpigu", *TINY, "--steps", 12, "--epsilon", 4, "--out", out
    )
    assert result.exit_code == 0, result.stderr
    summary = summary_of(out)
    assert summary["preset"] == "adadpigu"
    assert summary["private"] is True
    assert summary["steps"] == 12
    assert summary["target_epsilon"] == 4
    assert 3.9 < summary["epsilon"] <= 4
    assert summary["accountant"] == "rdp"
    assert summary["adjacency"] == "add-or-remove-one"
    text = result.stdout
    assert f"σ = {summary['noise_multiplier']:.5g} calibrated to ε ≤ 4" in text
    assert "pretraining 1 steps, then main 11 steps" in text
    assert f"{summary['test_accuracy']:.2%}" in text
    assert f"the largest class alone makes {summary['baselines']['accuracy']['value']:.2%}" in text
    assert f"ε = {summary['epsilon']:.4f} (target 4) at δ = 1e-05, RDP accountant" in text
    for name in ("public/STATEMENT.txt", "public/run.png"):
        assert str(out / name) in text
        assert (out / name).is_file()


def test_what_betrays_a_batch_is_kept_out_of_the_public_folder(tmp_path: Path) -> None:
    train(tmp_path / "run")
    public, private = tmp_path / "run" / "public", tmp_path / "run" / "private"
    assert {path.name for path in public.iterdir()} == PUBLIC
    assert {path.name for path in private.iterdir()} == {
        *("README.txt", "identity.json", "lock", "times.jsonl")
    }
    assert {key for line in lines_of(private / "times.jsonl") for key in line} == {
        "step",
        "seconds",
    }
    keys = {key for line in lines_of(public / "ledger.jsonl")[1:] for key in line}
    assert keys == {"line", "kind", "mechanism", "steps", "how", "before"}
    for line in lines_of(public / "metrics.jsonl"):
        assert set(line) == {
            *("step", "epsilon", "test_accuracy"),
            *("learning_rate", "support", "clipped"),
        }
    texts = [path.read_text() for path in public.iterdir() if path.suffix in (".json", ".toml")]
    assert not any(word in text for text in texts for word in ("seconds", "realised", "train_acc"))


def test_json_is_the_summary_and_nothing_else(tmp_path: Path) -> None:
    result = train(tmp_path / "run", "--json")
    assert strict_json(result.stdout) == summary_of(tmp_path / "run")
    assert result.stderr == ""


def test_quiet_shows_the_result_without_plan_or_progress(tmp_path: Path) -> None:
    result = train(tmp_path / "run", "--quiet")
    assert result.stderr == ""
    assert result.stdout.splitlines()[0].startswith("run ")
    assert "accuracy" in result.stdout


@pytest.mark.parametrize("noise", [("non-private",), ("dpsgd", "--noise-multiplier", 0)])
def test_a_run_without_noise_says_that_it_is_not_private(
    noise: tuple[object, ...], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    result = dpigu("train", "--preset", *noise, *TINY, "--steps", 3, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert "NOT PRIVATE: no noise was drawn" in result.stdout
    assert "ε =" not in result.stdout
    summary = summary_of(out)
    assert (summary["private"], summary["epsilon"]) == (False, None)


def test_diagnostics_make_the_run_not_private(tmp_path: Path) -> None:
    assert "NOT PRIVATE: diagnostics" in train(tmp_path / "run", "--diagnostics").stdout


def test_the_default_folder_is_the_first_that_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for n in (1, 2):
        result = dpigu(
            "train", "--preset", "dpsgd", *TINY, "--steps", 1, "--noise-multiplier", 1, "--quiet"
        )
        assert result.exit_code == 0, result.stderr
        assert f"runs/dpsgd-digits-{n}" in result.stdout
        assert (tmp_path / f"runs/dpsgd-digits-{n}/public/summary.json").is_file()


def test_a_configuration_makes_the_same_plan_again(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    options = ("--set", "main.scheduler.ratio=0.3", "--learning-rate", 0.2, "--seed", 5)
    made = dpigu(
        *("train", "--preset", "adadpigu", *TINY, "--steps", 6, "--epsilon", 4),
        *(*options, "--out", first),
    )
    assert made.exit_code == 0, made.stderr
    again = dpigu("train", "--config", first / "public" / "config.toml", "--out", second)
    assert again.exit_code == 0, again.stderr
    one, two = (recipe_from_file(p / "public" / "config.toml") for p in (first, second))
    assert one == two
    assert one.plan.phases[1].pipeline.scheduler.ratio == 0.3  # type: ignore[union-attr]  # an option of this stage
    assert summary_of(first)["epsilon"] == summary_of(second)["epsilon"]


def test_options_beside_a_configuration_override_it(tmp_path: Path) -> None:
    train(tmp_path / "first", "--noise-multiplier", 2, "--clip", 0.3, steps=8)
    config = tmp_path / "first" / "public" / "config.toml"

    def changed(*options: object) -> dict[str, Any]:
        out = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        result = dpigu("train", "--config", config, "--out", out, *options)
        assert result.exit_code == 0, result.stderr
        return summary_of(out)

    assert changed("--steps", 4)["noise_multiplier"] == 2
    sparse = changed("--rate", 0.01, "--epochs", 0.05, "--model", "mlp")
    assert (sparse["rate"], sparse["steps"], sparse["model"]) == (0.01, 5, "mlp")
    assert changed("--noise-multiplier", 1.5)["noise_multiplier"] == pytest.approx(1.5)
    target = changed("--epsilon", 3)
    assert target["target_epsilon"] == 3
    assert 2.9 < target["epsilon"] <= 3


def test_an_interrupted_run_goes_on_and_charges_the_lost_step_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    options = ("--preset", "dpsgd", *TINY, "--steps", 10, "--noise-multiplier", 1, "--out", out)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 6, KeyboardInterrupt())
        stopped = dpigu("train", *options, "--quiet")
    assert stopped.exit_code == 130
    assert one_line(stopped) == f"interrupted; go on with: dpigu train --resume --out {out}"
    assert RunFolder(out).ledger().steps == 6
    resumed = dpigu("train", "--resume", "--out", out, "--json")
    assert resumed.exit_code == 0, resumed.stderr
    assert RunFolder(out).ledger().steps == 11  # the sixth step ran twice
    assert strict_json(resumed.stdout)["steps"] == 11


def test_resuming_a_finished_run_spends_nothing(tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(out)
    before = summary_of(out)
    assert dpigu("train", "--resume", "--out", out).exit_code == 0
    assert summary_of(out) == before


def test_a_crash_keeps_its_traceback_in_the_private_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    interrupt_at(monkeypatch, 2, ZeroDivisionError("record 17"))
    options = ("--preset", "dpsgd", *TINY, "--steps", 3, "--noise-multiplier", 1, "--out", out)
    result = dpigu("train", *options, "--quiet")
    assert result.exit_code == 70
    assert str(out / "private" / "crashes.txt") in one_line(result)
    assert "record 17" in (out / "private" / "crashes.txt").read_text()
    for path in (out / "public").rglob("*"):
        assert path.is_dir() or b"record 17" not in path.read_bytes()


def test_canaries_are_planted_and_a_resumed_run_trains_on_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, seen = tmp_path / "run", []
    real = loop.Loop.__init__

    def watched(self: loop.Loop, run: OpenRun, *rest: Any) -> None:
        seen.append(run.prepared.data)
        real(self, run, *rest)

    monkeypatch.setattr(loop.Loop, "__init__", watched)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2, KeyboardInterrupt())
        options = ("--preset", "dpsgd", *TINY, "--steps", 3, "--noise-multiplier", 1)
        assert dpigu("train", *options, "--canaries", 60, "--out", out).exit_code == 130
    resumed = dpigu("train", "--resume", "--out", out)
    assert resumed.exit_code == 0, resumed.stderr
    assert f"dpaudit model {out}" in resumed.stdout
    before, after = seen
    plain = load_data("digits")
    canaries = load_plan(RunFolder.existing(out))
    assert len(plain.train_y) - len(before.train_y) == 60 - sum(canaries.coins)
    assert torch.equal(before.train_x, after.train_x)
    assert torch.equal(before.train_y, after.train_y)


def test_an_npz_is_trained_on_and_its_model_comes_back(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    x, y = draw.random((80, 5)), draw.integers(0, 3, 80)
    file, out = tmp_path / "points.npz", tmp_path / "run"
    np.savez(file, x=x[:60], y=y[:60], test_x=x[60:], test_y=y[60:])
    options = ("--batch", 20, "--noise-multiplier", 1, "--steps", 2, "--accountant", "rdp")
    declared = ("--records", 60, "--classes", 3)
    result = dpigu("train", "--preset", "dpsgd", "--data", file, *declared, *options, "--out", out)
    assert result.exit_code == 0, result.stderr
    run = load_run(out)
    assert run.summary["records"] == 60
    assert sum(p.numel() for p in run.model.parameters()) == 128 * 6 + 3 * 129
    config = out / "public" / "config.toml"
    again = dpigu("train", "--config", config, "--out", tmp_path / "again")
    assert again.exit_code == 0, again.stderr


def test_the_choices_are_those_of_the_settings() -> None:
    hints = typing.get_type_hints(Settings)
    for option in main.commands["train"].params:
        if isinstance(option.type, click.Choice) and option.name in hints.keys() - {"accountant"}:
            assert list(option.type.choices) == list(typing.get_args(hints[str(option.name)]))
    listed = dpigu("presets").stdout
    assert all(f"\n{name} " in f"\n{listed}" for name in PRESETS)


def test_looks_and_repeated_steps_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    options = (*TINY, "--steps", 12, "--noise-multiplier", 1.5, "--out", out)
    with monkeypatch.context() as patch:
        patch.setattr("dpigu.trainers.lifecycle.run.finish", _interrupted)
        assert dpigu("train", "--preset", "dpsur", *options).exit_code == 130
    ledger = LedgerFile(out / "public" / "ledger.jsonl")
    ledger.pay("main", 1)
    told = dpigu("train", "--resume", "--out", out)
    assert told.exit_code == 0, told.stderr
    assert "main 12 steps; σ = 1.5, at every look 1, at δ = 1e-05" in told.stdout
    assert (
        "σ = 1.5, 13 steps, 1 of them repeated or lost to an interruption, at rate" in told.stdout
    )
    assert "one at every step, charged too: σ = 1 at rate 0.01" in told.stdout
    summary = json.loads((out / "public" / "summary.json").read_text())
    short = {"steps": 12, "repeated_steps": 1, "stopped_early": True, "epsilon_is": "claim"}
    assert "stopped at the budget after 11 of 12 planned" in str(_privacy(summary | short))


def test_a_damaged_folder_is_told_before_anything_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("dpigu.trainers.lifecycle.run.finish", _interrupted)
        options = (*TINY, "--steps", 2, "--noise-multiplier", 1.5, "--out", out)
        assert dpigu("train", "--preset", "dpsgd", *options).exit_code == 130
    checkpoint = out / "public" / "checkpoint"
    for damaged in (b"", checkpoint.read_bytes()[:-1]):
        checkpoint.write_bytes(damaged)
        told = dpigu("train", "--resume", "--out", out)
        assert told.exit_code == 2 and told.stdout == ""
        assert "the checkpoint is damaged" in one_line(told)


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt
