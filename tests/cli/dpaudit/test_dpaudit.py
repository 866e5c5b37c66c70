"""`dpaudit`: verdicts as exit statuses, and the calculators' reference values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from dpigu.cli.dpaudit.bound import bound
from dpigu.cli.dpaudit.main import main

from tests.support.dpigu_command import dpigu, one_line, strict_json, train


def dpaudit(*args: object) -> Result:
    """Run `dpaudit` with these arguments."""
    return CliRunner().invoke(main, [str(arg) for arg in args], prog_name="dpaudit")


def answer(*args: object) -> Any:
    """What a calculator prints with --json."""
    result = dpaudit("bound", *args, "--json")
    assert result.exit_code == 0, result.stderr
    return strict_json(result.stdout)


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits learnt without noise, with 300 canaries among them."""
    out = tmp_path_factory.mktemp("leaky") / "run"
    result = dpigu(
        *("train", "--preset", "non-private", "--data", "digits", "--canaries", 300),
        *("--steps", 400, "--batch", 64, "--learning-rate", 0.1, "--out", out, "--quiet"),
    )
    assert result.exit_code == 0, result.stderr
    return out


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits learnt with noise, with 100 canaries among them."""
    out = tmp_path_factory.mktemp("honest") / "run"
    train(out, "--canaries", 100, steps=20)
    return out


def test_training_without_noise_contradicts_a_claim_of_a_tenth(leaky: Path) -> None:
    """About 190 of 220 guesses are right and 136 are enough: 9 standard deviations fewer."""
    result = dpaudit("model", leaky, "--claim-epsilon", 0.1, "--json")
    assert result.exit_code == 1, result.output
    report = strict_json(result.stdout)
    assert report["verdict"] == "CONTRADICTED"
    assert report["p_value"] < 0.05 and report["lower_bound"] > 0.1
    assert report == strict_json((leaky / "private" / "report.json").read_text())


def test_an_honest_run_is_not_contradicted(honest: Path) -> None:
    """A true claim is contradicted in at most 5% of runs; this one leaks far less than it claims.

    20 steps at rate 0.04 and σ = 1 are 0.3-GDP or so, while ε is above 1: under 1e-4 of runs.
    """
    result = dpaudit("model", honest)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("NOT CONTRADICTED\n")


def test_the_verdict_comes_first_and_all_of_it_fits_a_screen(leaky: Path) -> None:
    result = dpaudit("model", leaky, "--claim-epsilon", 0.1)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == "CONTRADICTED" and lines[1].startswith("The evidence contradicts")
    assert len(lines) <= 24 and max(map(len, lines[:-2])) <= 100
    words = ("p-value", "lower bound", "ceiling", "300 mislabelled", "right", "assumed", "checked")
    assert all(word in result.stdout for word in words)


def test_a_run_without_canaries_supports_no_verdict_and_says_what_to_do(tmp_path: Path) -> None:
    train(tmp_path / "run")
    result = dpaudit("model", tmp_path / "run")
    assert result.exit_code == 3
    assert result.stdout.startswith("INVALID AUDIT\n") and "a run with canaries" in result.stdout


def test_tampered_coins_support_no_verdict(tmp_path: Path) -> None:
    train(tmp_path / "run", "--canaries", 50)
    assert dpaudit("model", tmp_path / "run").exit_code == 0
    path = tmp_path / "run" / "private" / "audit-plan.json"
    plan = json.loads(path.read_text())
    plan["coins"] = [1 - coin for coin in plan["coins"]]
    path.write_text(json.dumps(plan))
    result = dpaudit("model", tmp_path / "run", "--json")
    assert result.exit_code == 3
    report = strict_json(result.stdout)
    assert report["verdict"] == "INVALID AUDIT" and report["p_value"] is None


def test_other_data_support_no_verdict_and_missing_data_are_a_mistake(tmp_path: Path) -> None:
    file, out = tmp_path / "mine.npz", tmp_path / "run"
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(80, 5)).astype(np.float32), draw.integers(0, 3, 80)
    held = {"test_x": x[:9] + 9, "test_y": y[:9]}
    np.savez(file, x=x, y=y, **held)
    declared = ("--data", file, "--records", 80, "--classes", 3, "--model", "linear")
    result = dpigu(
        *("train", "--preset", "dpsgd", *declared, "--noise-multiplier", 1, "--accountant", "rdp"),
        *("--batch", 20, "--steps", 2, "--canaries", 40, "--out", out, "--quiet"),
    )
    assert result.exit_code == 0, result.stderr
    assert dpaudit("model", out).exit_code == 0
    np.savez(file, x=x[::-1], y=y[::-1], **held)
    result = dpaudit("model", out)
    assert result.exit_code == 3 and "fingerprints" in result.stdout
    file.unlink()
    result = dpaudit("model", out)
    assert result.exit_code == 2 and "no such file" in one_line(result)


def test_a_resumed_run_keeps_its_canaries(tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(out, "--canaries", 50)
    (out / "public" / "summary.json").unlink()
    result = dpaudit("model", out)
    assert result.exit_code == 2 and "Resume it" in one_line(result)
    assert dpigu("train", "--resume", "--out", out, "--quiet").exit_code == 0
    assert dpaudit("model", out).exit_code == 0


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("model", "nowhere"), "no run folder"),
        (("model",), "RUN_FOLDER"),
        (("model", "nowhere", "--claim-epsilon", "-1"), "--claim-epsilon"),
        (("model", "nowhere", "--claim-epsilon", "nan"), "--claim-epsilon"),
        (("bound", "one-run", "--canaries", "9", "--guesses", "9", "--correct", "9"), "--delta"),
        (("bound", "f-dp", "--canaries", "9", "--guesses", "9", "--delta", "0"), "--correct"),
    ],
)
def test_a_mistake_is_one_line_and_never_reads_as_a_contradiction(
    args: tuple[str, ...], why: str
) -> None:
    result = dpaudit(*args)
    assert result.exit_code == 2
    assert why in one_line(result)


def test_counts_that_cannot_be_are_a_mistake() -> None:
    counts = ("--canaries", 9, "--guesses", 10, "--correct", 5, "--delta", 0)
    for name in ("one-run", "f-dp"):
        result = dpaudit("bound", name, *counts)
        assert result.exit_code == 2 and "≤" in one_line(result)


def last_digit(value: float, digits: int) -> Any:
    """Equal to a printed value that was rounded or, as a lower bound is, cut off."""
    return pytest.approx(value, rel=0, abs=0.6 * 10**-digits)


@pytest.mark.parametrize(
    ("m", "r", "v", "delta", "value", "digits"),
    [
        (100, 100, 75, 0, 0.7022, 4),
        (100, 100, 75, 1e-4, 0.6995, 4),
        (100_000, 1510, 1439, 1e-5, 2.6758, 4),
        (100, 100, 100, 0, 3.493, 3),
        (1000, 1000, 1000, 0, 5.809, 3),
        (10_000, 10_000, 10_000, 0, 8.113, 3),
        (1000, 1000, 1000, 1e-5, 5.782, 3),
        (10_000, 10_000, 10_000, 1e-5, 7.834, 3),
        (1000, 100, 95, 1e-5, 2.165, 3),
    ],
)
def test_one_run_bounds(m: int, r: int, v: int, delta: float, value: float, digits: int) -> None:
    """Reference values, the third also in Steinke, Nasr and Jagielski 2023, section 6."""
    counts = ("--canaries", m, "--guesses", r, "--correct", v, "--delta", delta)
    assert answer("one-run", *counts)["epsilon"] == last_digit(value, digits)


def test_the_p_value_at_a_claim() -> None:
    counts = ("--canaries", 100, "--guesses", 100, "--correct", 75, "--delta", 0)
    found = answer("one-run", *counts, "--claim-epsilon", repr(np.log(3.0).item()))
    assert round(found["p_value"], 4) == 0.5535


@pytest.mark.parametrize(
    ("side", "confidence", "value", "digits"),
    [(500, 0.99, 4.5419, 4), (100, 0.95, 3.281, 3), (1000, 0.95, 5.601, 3)],
)
def test_clopper_pearson_bounds(side: int, confidence: float, value: float, digits: int) -> None:
    errors = ("--false-positives", 0, "--false-negatives", 0)
    sides = ("--non-members", side, "--members", side)
    found = answer("clopper-pearson", *errors, *sides, "--delta", 0, "--confidence", confidence)
    assert found["epsilon"] == last_digit(value, digits)


@pytest.mark.parametrize(
    ("m", "g", "c", "delta", "value", "digits"),
    [(100, 80, 70, 1e-6, 3.2956, 4), (1000, 100, 95, 1e-5, 3.323, 3)],
)
def test_f_dp_estimates(m: int, g: int, c: int, delta: float, value: float, digits: int) -> None:
    found = answer("f-dp", "--canaries", m, "--guesses", g, "--correct", c, "--delta", delta)
    assert found["epsilon_if_gaussian"] == last_digit(value, digits)
    assert found["mu"] > 0


def test_an_infinite_estimate_is_null_in_json() -> None:
    found = answer("f-dp", "--canaries", 100, "--guesses", 80, "--correct", 70, "--delta", 0)
    assert found["epsilon_if_gaussian"] is None and found["mu"] > 0


def test_text_never_prints_a_bound_larger_than_it_is() -> None:
    counts = ("--canaries", 1000, "--guesses", 100, "--correct", 95, "--delta", 1e-5)
    printed = float(dpaudit("bound", "one-run", *counts).stdout.split()[2])
    assert 0 <= answer("one-run", *counts)["epsilon"] - printed < 1e-4


def test_every_help_has_an_example() -> None:
    commands = [(), ("model",), *(("bound", name) for name in bound.commands)]
    for command in commands:
        result = dpaudit(*command, "--help")
        assert result.exit_code == 0
        assert "Example" in result.stdout and "dpaudit " in result.stdout
