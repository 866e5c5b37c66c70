"""`dpigu account`: reference values, JSON shapes, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from cli.output import _plain
from tests.cli.dpigu_command import dpigu, dpigu_json, one_line, train

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


def test_numbers_that_json_has_not_become_null() -> None:
    found = _plain({"a": math.inf, "b": [math.nan, -math.inf, 1.0], "c": ("x", None, True)})
    assert found == {"a": None, "b": [None, None, 1.0], "c": ["x", None, True]}
