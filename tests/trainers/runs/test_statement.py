"""What a run says of itself is all of it: every phase, every look, what was taken as public."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dpigu.dpcore import ConfigurationError
from dpigu.dpcore.errors import DataError
from dpigu.trainers import Tensors, build_model, recipe_for, train
from dpigu.trainers.runs.statement import statement


def trained(preset: str, tmp_path: Path, **options: Any) -> tuple[dict[str, Any], str]:
    recipe = recipe_for(
        preset, "digits", steps=20, model="linear", rate=0.02, accountant="rdp", **options
    )
    data = recipe.load_data()
    run = train(
        recipe.plan,
        data,
        build_model("linear", data.spec, 0),
        recipe.settings,
        out=tmp_path / "run",
        labels=recipe.labels(data.spec),
        public=recipe.load_public(data.spec),
        progress=False,
    )
    return dict(run.summary), (tmp_path / "run/public/STATEMENT.txt").read_text()


def test_looks_are_stated_with_their_noise_and_rate(tmp_path: Path) -> None:
    summary, text = trained("dpsur", tmp_path, noise_multiplier=1.5)
    (phase,) = summary["phases"]
    assert phase["noise_multiplier"] == 1.5
    assert phase["selective_update"] == {"noise_multiplier": 1.0, "rate": 0.005}
    assert "noise of 1.5 times the clipping norm. Every update was looked at" in text
    assert "at rate 0.005, with Gaussian noise of 1 times the look's own clipping norm" in text


def test_every_phase_is_stated_with_its_own_noise(tmp_path: Path) -> None:
    options = {"noise_multiplier": 1.5, "assignments": ["votes.noiser.noise_multiplier=2.0"]}
    summary, text = trained("voted-top-k", tmp_path, **options)
    assert [(p["name"], p["steps"], p["noise_multiplier"]) for p in summary["phases"]] == [
        ("votes", 2, 3.0),
        ("main", 18, 1.5),
    ]
    assert "by voted-top-k over 20 steps (votes 2 and main 18), each" in text
    assert "noise of 3 (votes) and 1.5 (main) times the clipping norm. ε" in text


def test_public_records_are_stated_where_a_stage_learns_from_them(tmp_path: Path) -> None:
    summary, text = trained("gep-public", tmp_path, noise_multiplier=1.5, public="procedural")
    assert summary["public_data"] == "procedural"
    assert "records that stages learnt from (procedural)" in text


def test_public_records_that_no_stage_reads_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no stage of the plan learns from public"):
        trained("dpsgd", tmp_path, noise_multiplier=1.5, public="procedural")


def test_the_private_records_are_no_public_ones(tmp_path: Path) -> None:
    """Neither the same tensors nor a copy of them."""
    recipe = recipe_for("gep-public", "digits", steps=2, noise_multiplier=1.5, accountant="rdp")
    data = recipe.load_data(progress=False)
    for public in (data, replace(data, train=Tensors(data.train_x.clone(), data.train_y))):
        model = build_model("linear", data.spec, 0)
        with pytest.raises(DataError, match="the public split shares records"):
            train(recipe.plan, data, model, recipe.settings, public=public, progress=False)


@pytest.mark.parametrize(
    ("epsilon", "stated"), [(3.84001, "3.841"), (0.123401, "0.1235"), (4.0, "4"), (123.41, "123.5")]
)
def test_a_stated_epsilon_is_never_below_the_spent_one(
    epsilon: float, stated: str, tmp_path: Path
) -> None:
    summary, _ = trained("dpsgd", tmp_path, noise_multiplier=1.5)
    assert f": ε = {stated} at" in statement(summary | {"epsilon": epsilon})


def test_a_strict_reader_finds_every_answer(tmp_path: Path) -> None:
    summary, text = trained("dpsgd", tmp_path, noise_multiplier=1.5)
    questions = ["Unit", "Trade-off", "Profile", "Sampling", "Released", "Tuning", "Other runs"]
    lines = text.splitlines()[2:]
    assert [line.split(":")[0] for line in lines] == questions
    assert "Tuning: not stated; it is not charged." in lines
    assert "the claim's accountant, RDP, is looser" in text
    assert "looser" not in statement(summary | {"accountant": "pld"})
    profile = dict(summary["privacy_profile"])
    assert profile[summary["delta"]] <= summary["epsilon"]  # by PLD, where the claim is by RDP
    assert sorted(profile.values(), reverse=True) == [profile[d] for d in sorted(profile)]


@pytest.mark.parametrize(("delta", "warned"), [(1e-5, False), (1 / 1500, False), (0.1, True)])
def test_a_delta_above_one_over_the_records_is_warned_of(
    delta: float, warned: bool, tmp_path: Path
) -> None:
    _, text = trained("dpsgd", tmp_path, noise_multiplier=1.5, delta=delta)
    assert ("WARNING: δ = 0.1 is above 1/1500" in text) == warned


def test_nobodys_words_write_a_line_of_their_own(tmp_path: Path) -> None:
    summary, text = trained("dpsgd", tmp_path, noise_multiplier=1.5)
    forged = summary | {"tuned": "by hand\nUnit: everybody.", "preset": "dpsgd\x1b[2K"}
    assert len(statement(forged).splitlines()) == len(text.splitlines())
    assert "\x1b" not in statement(forged)
