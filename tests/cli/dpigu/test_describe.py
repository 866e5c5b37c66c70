"""`dpigu describe` says what `dpigu train` would run, and who holds each guarantee."""

from __future__ import annotations

from pathlib import Path

import pytest
from dpigu.dpcore.grammar.stages import name_of
from dpigu.mechanisms import PRESETS
from dpigu.trainers import SPECS, build_model
from dpigu.trainers.data.features.registry import feature_spec

from tests.support.dpigu_command import TINY, dpigu, dpigu_json, one_line, train


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "non-private"])
def test_a_preset_is_described_with_its_phases_and_guarantees(preset: str) -> None:
    about = dpigu_json("describe", preset, *TINY, "--noise-multiplier", 1.5, "--steps", 40)
    plan = PRESETS[preset].plan(40)
    assert [p["name"] for p in about["phases"]] == [p.name for p in plan.phases]
    assert sum(p["steps"] for p in about["phases"]) == about["steps"] == 40
    spec = SPECS["digits"]
    if "features" in PRESETS[preset].training:
        spec = feature_spec(spec, PRESETS[preset].training["features"])
    model = build_model("linear", spec, 0)
    assert about["coordinates"] == sum(p.numel() for p in model.parameters())
    for phase, planned in zip(about["phases"], plan.phases, strict=True):
        assert phase["noise_multiplier"] == 1.5
        rate = f"PoissonSampledDpEvent(sampling_probability={0.04 * planned.period}, "
        endless = planned.pipeline.endless  # charged whole, without sampling
        assert phase["event"].startswith("GaussianDpEvent(" if endless else rate)
        assert phase["stages"]["clipper"]["stage"] == name_of(planned.pipeline.clipper)
    assert {g["held"] for g in about["guarantees"]} <= {"enforced", "checked", "declared"}
    text = dpigu("describe", preset, *TINY, "--noise-multiplier", 1.5, "--steps", 40).stdout
    assert all(g["statement"] in text for g in about["guarantees"])
    assert f"{about['coordinates']:,} coordinates" in text


def test_the_support_grows_from_its_first_ratio_to_its_last() -> None:
    options = (*TINY, "--noise-multiplier", 1, "--set", "scheduler.ratio=0.5")
    before, main = dpigu_json("describe", "adadpigu", *options)["phases"]
    assert before["support"] == [650, 650]
    assert main["support"] == [325, 650]


@pytest.mark.parametrize(
    ("preset", "coordinates"),
    [
        ("dpsgd-hf-channels", [2 * 81, 81 * 2 * 2 * 10 + 10]),
        ("pcdp-sgd", [650, 16]),
        ("random-sums", [325]),
    ],
)
def test_the_support_is_where_the_noise_is_drawn(preset: str, coordinates: list[int]) -> None:
    """A statistic's own numbers, or those that a row map leaves: not the model's."""
    about = dpigu_json(
        "describe",
        preset,
        *(x for x in TINY if x not in ("--model", "linear")),
        "--noise-multiplier",
        1,
        *(() if "hf" in preset else ("--model", "linear")),
    )
    assert [phase["support"] for phase in about["phases"]] == [[n, n] for n in coordinates]


@pytest.mark.parametrize(
    ("preset", "says"),
    [
        ("dpsgd-ema", "ema of the weights"),
        ("dp-adambc", "adam-bc, constant learning rate"),
        ("dpsgd-hf", "features  scattering"),
        ("gep-public", "public    procedural"),
    ],
)
def test_what_makes_a_preset_of_dpsgd_is_said(preset: str, says: str) -> None:
    options = ("--data", "digits", "--noise-multiplier", 1)
    assert says in dpigu("describe", preset, *options).stdout
    assert says not in dpigu("describe", "dpsgd", *options).stdout


def test_the_model_of_a_file_that_was_not_read_is_not_none() -> None:
    about = dpigu("describe", "dpsgd", "--data", "x.npz", "--records", 9, "--noise-multiplier", 1)
    assert "by the shape of the data" in about.stdout and "None" not in about.stdout


def test_the_noise_is_the_one_that_the_accountant_asks_for() -> None:
    about = dpigu_json("describe", "dpsgd", *TINY, "--steps", 50, "--epsilon", 2)
    noise = dpigu_json(
        *("account", "noise", "--epsilon", 2, "--delta", 1e-5, "--steps", 50),
        *("--rate", 0.04, "--accountant", "rdp"),
    )
    assert about["phases"][0]["noise_multiplier"] == noise["rdp"]["noise_multiplier"]
    assert about["target_epsilon"] == 2


def test_who_states_epsilon_is_said_and_why() -> None:
    options = ("--data", "digits", "--steps", 10, "--noise-multiplier", 1)
    short = dpigu("describe", "dpsgd", *options, "--batch", 256).stdout
    assert "rdp: quick, for a short run: 2560 visits to records in all" in short
    assert "10 steps, 1.707 epochs" in short and "RDP accountant" in short
    named = dpigu_json("describe", "dpsgd", *options, "--accountant", "pld")
    assert named["accountant"] == "pld" and "named" in named["accountant_because"]


def test_a_run_without_noise_is_described_as_not_private() -> None:
    about = dpigu_json("describe", "non-private", *TINY)
    assert about["private"] is False
    assert about["guarantees"] == [
        {
            "statement": "no privacy: no noise is drawn, and ε is undefined",
            "held": "enforced",
            "by": "Plan",
        }
    ]
    assert "NOT PRIVATE" in dpigu("describe", "non-private", *TINY).stdout


def test_the_configuration_of_a_run_is_described_as_it_ran(tmp_path: Path) -> None:
    train(tmp_path / "run", "--noise-multiplier", 1.75, "--clip", 0.25)
    about = dpigu_json("describe", tmp_path / "run" / "public" / "config.toml")
    (phase,) = about["phases"]
    assert phase["noise_multiplier"] == 1.75
    assert phase["stages"]["clipper"] == {"stage": "flat", "bound": 0.25}
    assert (about["preset"], about["model"], about["steps"]) == ("dpsgd", "linear", 3)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("dpsdg",), "Did you mean dpsgd?"),
        (("missing.toml",), "missing.toml"),
        (("dpsgd", "--data", "mnits"), "mnits"),
        (("dpsgd", "--data", "x.npz"), "--records"),
        (("dpsgd", "--data", "digits", "--records", "1400"), "declared already"),
        (("dpsgd", "--model", "mpl"), "Did you mean mlp?"),
    ],
)
def test_what_cannot_be_described_is_a_users_error(
    args: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = dpigu("describe", *args, "--noise-multiplier", 1)
    assert result.exit_code == 2
    assert says in one_line(result)


def test_the_engine_of_every_phase_and_parameter_is_told_with_the_reason() -> None:
    options = (*TINY, "--noise-multiplier", 1)
    before, main = dpigu_json("describe", "adadpigu", *options)["engines"]
    for told in (before, main):
        assert told["engine"] == "ghost"
        assert {name: choice.split(":")[0] for name, choice in told["choices"].items()} == {
            "1.weight": "ghost",
            "1.bias": "form",
        }
    text = dpigu("describe", "adadpigu", *options).stdout
    assert main["choices"]["1.weight"] in text
