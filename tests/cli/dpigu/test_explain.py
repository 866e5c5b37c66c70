"""`dpigu explain` and `compare`, and what `dpigu train` says before it spends."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from dpigu.cli.dpigu.train.report import length_line, plan_lines
from dpigu.trainers import Settings, recipe_for

from tests.support.dpigu_command import dpigu, one_line, strict_json, train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A tiny run, and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "low"
    return out, train(out, "--noise-multiplier", 2).stdout


def test_train_says_plan_budget_and_cost_before_and_what_is_next_after(
    run: tuple[Path, str],
) -> None:
    out, text = run
    names = [line.split()[0] for line in text.splitlines()]
    assert names[:3] == ["plan", "budget", "expected"] and names.index("run") == 3
    assert "fixed now" in text and "for 3 steps" in text and f"dpigu explain {out}" in text


def test_explain_says_what_was_promised_and_what_was_not(run: tuple[Path, str]) -> None:
    out, _ = run
    text = dpigu("explain", out).stdout
    assert "What was promised" in text and "What was not promised" in text
    told = strict_json(dpigu("explain", out, "--json").stdout)
    assert "fixed before the first step" in told["What was promised"][0]


def test_compare_prints_a_row_a_run_and_draws(run: tuple[Path, str], tmp_path: Path) -> None:
    out, _ = run
    other, picture = tmp_path / "high", tmp_path / "both.png"
    train(other)
    head, low, high, *after = dpigu("compare", out, other, "--out", picture).stdout.splitlines()
    assert head.split()[:4] == ["run", "preset", "data", "ε"] and head.split()[-1] == "accuracy"
    assert low.split()[0] == "low" and high.split()[0] == "high"
    assert float(low.split()[3]) < float(high.split()[3])
    assert low.split()[5] == "2.00" and high.split()[5] == "1.00"
    assert "cost more together" in after[1] and picture.is_file()
    rows = strict_json(dpigu("compare", out, "--out", picture, "--json").stdout)
    assert rows[0]["run"] == "low"


def test_compare_draws_beside_the_first_run_where_no_place_is_given(
    run: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = run
    monkeypatch.chdir(tmp_path)
    assert str(out.parent / "comparison.png") in dpigu("compare", out).stdout
    assert (out.parent / "comparison.png").is_file() and not any(tmp_path.iterdir())


def test_train_says_where_its_accountant_and_its_steps_come_from() -> None:
    settings = Settings(epsilon=4.0, expected_batch=60)
    recipe = recipe_for("dpsgd", "my.csv", records=600, classes=2)
    plan, accountant = plan_lines(recipe, recipe.plan)
    assert plan.endswith("(RDP)") and accountant.startswith("accountant RDP: quick, for a short")
    named = dataclasses.replace(recipe, settings=dataclasses.replace(settings, accountant="rdp"))
    assert len(plan_lines(named, named.plan)) == 1
    assert "300, 30 epochs: the default for 600 records" in length_line(recipe)


@pytest.mark.parametrize(
    ("rate", "steps"), [(0.1, 300), (0.02, 1000), (1e-4, 1000), (1.0, 100)], ids=str
)
def test_data_of_yours_is_trained_on_for_thirty_epochs_within_bounds(
    rate: float, steps: int
) -> None:
    recipe = recipe_for("dpsgd", "my.csv", records=100_000, classes=2, rate=rate)
    assert recipe.plan.steps == steps
    assert recipe_for("dpsgd", "digits", rate=rate).plan.steps == 200


@pytest.mark.parametrize("command", ["explain", "compare"])
def test_a_folder_that_is_no_run_is_one_line(command: str, tmp_path: Path) -> None:
    result = dpigu(command, tmp_path)
    assert result.exit_code == 2 and "this is no run folder" in one_line(result)
