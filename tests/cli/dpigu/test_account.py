"""`dpigu account`: reference values, JSON shapes, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from dpigu.cli.shared.output import _plain

from tests.support.dpigu_command import dpigu, dpigu_json, one_line, train

REFERENCE = ("--rate", 1000 / 60000, "--steps", 2400, "--delta", 1e-5)


def test_the_three_accountants_give_the_reference_values() -> None:
    """q = 1000/60000, σ = 2.49, T = 2400, δ = 1e-5: dp-accounting 0.6 gives 1.4505 and 1.327."""
    found = dpigu_json(
        "account", "epsilon", *REFERENCE, "--noise-multiplier", 2.49, "--accountant", "all"
    )
    assert list(found) == ["rdp", "prv", "pld"]
    assert found["rdp"] == {"epsilon": pytest.approx(1.4505, abs=5e-5)}
    assert found["pld"] == {"epsilon": pytest.approx(1.327, abs=5e-4)}
    prv = found["prv"]
    assert set(prv) == {"epsilon", "lower", "estimate"}
    assert prv["lower"] < prv["estimate"] < prv["epsilon"]
    own_error = (prv["epsilon"] - prv["lower"]) / 2
    assert abs(prv["epsilon"] - found["pld"]["epsilon"]) <= 0.01 + own_error


def test_a_batch_over_records_is_a_rate() -> None:
    common = ("--steps", 10, "--delta", 1e-5, "--noise-multiplier", 1, "--accountant", "rdp")
    by_batch = dpigu_json("account", "epsilon", "--batch", 25, "--records", 100, *common)
    by_rate = dpigu_json("account", "epsilon", "--rate", 0.25, *common)
    assert by_batch == by_rate
    assert by_rate != dpigu_json("account", "epsilon", "--rate", 0.26, *common)


def test_the_noise_for_a_target_keeps_it_and_a_little_less_does_not() -> None:
    found = dpigu_json("account", "noise", "--epsilon", 1.5, *REFERENCE, "--accountant", "rdp")
    assert list(found) == ["rdp"]
    assert list(found["rdp"]) == ["noise_multiplier"]

    def epsilon(sigma: float) -> float:
        options = (*REFERENCE, "--noise-multiplier", sigma, "--accountant", "rdp")
        return float(dpigu_json("account", "epsilon", *options)["rdp"]["epsilon"])

    sigma = found["rdp"]["noise_multiplier"]
    assert epsilon(sigma) <= 1.5 < epsilon(sigma - 2e-4)


def test_no_noise_has_no_epsilon() -> None:
    options = (*REFERENCE, "--noise-multiplier", 0, "--accountant", "all")
    for answer in dpigu_json("account", "epsilon", *options).values():
        assert answer["epsilon"] is None
        assert answer["note"]
    assert "no ε" in dpigu("account", "epsilon", *options).stdout


def test_of_all_accountants_those_that_do_not_know_a_relation_say_so() -> None:
    options = ("--rate", 0.1, "--steps", 5, "--delta", 1e-5, "--noise-multiplier", 2)
    relation = ("--adjacency", "replace-one")
    found = dpigu_json("account", "epsilon", *options, *relation, "--accountant", "all")
    assert found["rdp"]["epsilon"] is None
    assert "does not know" in found["rdp"]["note"]
    either = dpigu_json("account", "epsilon", *options, "--accountant", "pld")
    assert found["pld"]["epsilon"] > either["pld"]["epsilon"]
    refused = dpigu("account", "epsilon", *options, *relation, "--accountant", "rdp")
    assert refused.exit_code == 2
    assert "does not know" in one_line(refused)


def test_the_plan_of_a_run_is_accounted_as_the_run_was(tmp_path: Path) -> None:
    train(tmp_path / "run", "--noise-multiplier", 1.25)
    config = tmp_path / "run" / "public" / "config.toml"
    found = dpigu_json("account", "epsilon", "--config", config, "--accountant", "rdp")
    by_hand = dpigu_json(
        *("account", "epsilon", "--batch", 60, "--records", 1500, "--steps", 3),
        *("--noise-multiplier", 1.25, "--delta", 1e-5, "--accountant", "rdp"),
    )
    assert found["rdp"]["epsilon"] == pytest.approx(by_hand["rdp"]["epsilon"], rel=1e-12)
    beside = dpigu("account", "epsilon", "--config", config, "--noise-multiplier", 2)
    assert beside.exit_code == 2
    assert "--noise-multiplier" in one_line(beside)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--steps", 5, "--noise-multiplier", 1, "--delta", 1e-5), "--rate"),
        (("--rate", 0.1, "--noise-multiplier", 1, "--delta", 1e-5), "--steps"),
        (("--rate", 0.1, "--steps", 5, "--delta", 1e-5), "--noise-multiplier"),
        (("--rate", 0.1, "--steps", 5, "--noise-multiplier", 1), "--delta"),
        (("--rate", 0.1, "--records", 9, "--steps", 5, "--noise-multiplier", 1), "--batch"),
        (
            ("--batch", 9, "--steps", 5, "--noise-multiplier", 1, "--delta", 1e-5),
            "--records",
        ),
        (
            ("--batch", 9, "--records", 8, "--steps", 5, "--noise-multiplier", 1, "--delta", 0.1),
            "rate",
        ),
        (("--config", "nowhere.toml"), "nowhere.toml"),
    ],
)
def test_what_is_missing_or_too_much_is_named(options: tuple[object, ...], says: str) -> None:
    result = dpigu("account", "epsilon", *options, "--accountant", "rdp")
    assert result.exit_code == 2
    assert says in one_line(result)


def test_a_target_that_no_noise_reaches_is_a_users_error() -> None:
    """At rate 1 and δ = 1e-300 no multiplier up to a million gives ε = 1e-9."""
    options = ("--rate", 1, "--steps", 10**6, "--delta", 1e-300, "--epsilon", 1e-9)
    result = dpigu("account", "noise", *options, "--accountant", "rdp")
    assert result.exit_code == 2
    assert "reaches this target" in one_line(result)


TUNING = (
    *("account", "tuning", "--batch", 1000, "--records", 60000),
    *("--steps", 500, "--noise-multiplier", 1.1354, "--delta", 1e-5),
)


def test_tuning_is_charged_for_the_choice_and_the_final_run() -> None:
    """Mean 4 at ε = 2: 3.7063 by dp-accounting's repeat-and-select, composed with the run."""
    found = dpigu_json(*TUNING)
    assert found["epsilon_of_one_run"] == pytest.approx(1.9994, abs=1e-4)
    assert found["epsilon"] == pytest.approx(3.7063, abs=1e-4)
    assert found["trials"] == {
        "distribution": "Poisson",
        "mean": 4,
        "shape": None,
        "gamma": None,
        "probability_of_none": pytest.approx(math.exp(-4)),
        "probability_of_one": pytest.approx(4 * math.exp(-4)),
    }
    assert (found["accountant"], found["final_run"], found["score_noise"]) == ("rdp", True, 10)
    assert dpigu_json(*TUNING, "--no-final")["epsilon"] == pytest.approx(2.9354, abs=1e-4)


def test_the_number_of_trials_its_distribution_and_the_scores_noise_count() -> None:
    many = dpigu_json(*TUNING, "--trials", 30)
    assert many["trials"]["distribution"] == "logarithmic"
    assert many["epsilon"] > 4.5
    geometric = dpigu_json(*TUNING, "--distribution", "geometric")
    assert geometric["epsilon"] == pytest.approx(4.2006, abs=1e-4)
    assert geometric["trials"]["gamma"] == pytest.approx(0.25)
    assert dpigu_json(*TUNING, "--score-noise", 0.5)["epsilon"] > 6
    assert dpigu_json(*TUNING, "--score-noise", 0)["epsilon"] is None


def test_tuning_says_in_words_what_it_covers() -> None:
    said = dpigu(*TUNING).stdout
    assert "ε = 1.9995" in said  # rounded up
    assert "ε = 3.7064" in said
    assert "Poisson (mean 4); a single one in 7.3% of cases, none in 1.8%" in said
    assert "standard deviation 10" in said
    assert "best trial, whose model is released" in dpigu(*TUNING, "--no-final").stdout
    assert "none in" not in dpigu(*TUNING, "--distribution", "logarithmic").stdout
    assert "no ε: no guarantee" in dpigu(*TUNING, "--score-noise", 0).stdout
    assert "Not covered: a fixed number of trials" in dpigu("account", "tuning", "--help").stdout


def test_tuning_reads_the_plan_of_a_run(tmp_path: Path) -> None:
    train(tmp_path / "run", "--noise-multiplier", 1.25)
    config = tmp_path / "run" / "public" / "config.toml"
    by_hand = dpigu_json(
        *("account", "tuning", "--batch", 60, "--records", 1500, "--steps", 3),
        *("--noise-multiplier", 1.25, "--delta", 1e-5),
    )
    found = dpigu_json("account", "tuning", "--config", config)
    assert found["epsilon"] == pytest.approx(by_hand["epsilon"], rel=1e-12)


def test_a_plan_under_replace_one_is_not_tuned(tmp_path: Path) -> None:
    train(tmp_path / "run")
    config = tmp_path / "replace-one.toml"
    text = (tmp_path / "run" / "public" / "config.toml").read_text(encoding="utf-8")
    text = text.replace("add-or-remove-one", "replace-one").replace('"rdp"', '"pld"')
    config.write_text(text, encoding="utf-8")
    refused = dpigu("account", "tuning", "--config", config)
    assert refused.exit_code == 2
    assert "claims replace-one" in one_line(refused)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--trials", 0.5), "--trials"),
        (("--trials", 2e6), "--trials"),
        (("--score-noise", -1), "--score-noise"),
        (("--distribution", "uniform"), "--distribution"),
        (("--rate", 0.1), "--rate"),
    ],
)
def test_what_tuning_cannot_charge_is_named(options: tuple[object, ...], says: str) -> None:
    result = dpigu(*TUNING, *options)
    assert result.exit_code == 2
    assert says in one_line(result)


def test_tuning_without_delta_names_it() -> None:
    result = dpigu("account", "tuning", "--rate", 0.1, "--steps", 5, "--noise-multiplier", 1)
    assert result.exit_code == 2
    assert "--delta" in one_line(result)


def test_numbers_that_json_has_not_become_null() -> None:
    found = _plain({"a": math.inf, "b": [math.nan, -math.inf, 1.0], "c": ("x", None, True)})
    assert found == {"a": None, "b": [None, None, 1.0], "c": ["x", None, True]}


def test_epochs_are_steps_times_rate() -> None:
    options = ("--rate", 0.3, "--delta", 1e-5, "--noise-multiplier", 1, "--accountant", "rdp")
    by_epochs = dpigu_json("account", "epsilon", *options, "--epochs", 3.1)
    assert by_epochs == dpigu_json("account", "epsilon", *options, "--steps", 10)
    both = dpigu("account", "epsilon", *options, "--epochs", 3, "--steps", 10)
    assert both.exit_code == 2 and "not both" in one_line(both)
