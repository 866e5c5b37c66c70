"""`dpaudit mechanism`: presets and configurations in, a verdict as the exit status."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli_w
from click.testing import CliRunner, Result
from dpigu.audits.mechanism.audit import RATE
from dpigu.cli.dpaudit.main import main
from dpigu.dpcore import DenseRows
from dpigu.dpcore.registry.configuration import plan_to_dict
from dpigu.mechanisms import dpsgd

from benchmarks.audits.audit_calibration import repeatable
from tests.support.dpigu_command import one_line, strict_json


def mechanism(*args: object) -> Result:
    """Run `dpaudit mechanism --quick` with these arguments, at a fixed seed."""
    command = ["mechanism", *map(str, args), "--quick"]
    with repeatable(4):
        return CliRunner().invoke(main, command, prog_name="dpaudit")


def configuration(path: Path, **settings: object) -> Path:
    """A configuration of DP-SGD on digits."""
    settings = {"noise_multiplier": 1.0, "rate": 0.25, **settings}
    table = {"data": {"name": "digits"}, "settings": settings, "plan": plan_to_dict(dpsgd(5))}
    path.write_text(tomli_w.dumps(table))
    return path


def test_a_preset_is_audited_by_name() -> None:
    result = mechanism("dpsgd", "--json")
    assert result.exit_code == 0, result.output
    report = strict_json(result.stdout)
    assert report["verdict"] == "NOT CONTRADICTED" and report["subject"] == "dpsgd"
    assert report["noise_multipliers"] == [1.0] and report["sampler"]["rate"] == RATE
    assert report["mu_bound"] < report["mu"] and report["p_value"] > 0.05


def test_a_configuration_brings_its_noise_and_its_sampler(tmp_path: Path) -> None:
    path = configuration(tmp_path / "plan.toml", noise_multiplier=0.8)
    report = strict_json(mechanism(path, "--json").stdout)
    assert report["noise_multipliers"] == [0.8]
    assert report["sampler"]["rate"] == 0.25
    louder = strict_json(mechanism(path, "--noise-multiplier", 2, "--json").stdout)
    assert louder["noise_multipliers"] == [2.0]


def test_the_verdict_comes_first_and_all_of_it_fits_a_screen() -> None:
    result = mechanism("dpsgd", "--set", "clipper.bound=3.0")
    lines = result.stdout.splitlines()
    assert lines[0] == "NOT CONTRADICTED" and lines[1].startswith("The evidence does not")
    assert len(lines) <= 24 and max(map(len, lines)) <= 100
    for word in ("p-value", "lower bound", "ceiling", "sampler", "assumed", "not thereby"):
        assert word in " ".join(result.stdout.split())


def test_a_broken_kernel_ends_with_status_one(monkeypatch: pytest.MonkeyPatch) -> None:
    right = DenseRows.norm_upper_bounds
    monkeypatch.setattr(DenseRows, "norm_upper_bounds", lambda rows: right(rows).clamp(max=0))
    result = mechanism("dpsgd")
    assert result.exit_code == 1, result.output
    assert result.stdout.startswith("CONTRADICTED\n") and len(result.stdout.splitlines()) <= 26


def test_hardly_any_noise_ends_with_status_three() -> None:
    result = mechanism("dpsgd", "--noise-multiplier", 0.1)
    assert result.exit_code == 3 and result.stdout.startswith("INVALID AUDIT\n")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("dpsdg",), "no preset and no file of that name"),
        (("missing.toml",), "cannot be read"),
        (("non-private",), "nothing to contradict"),
        (("dpsgd", "--set", "clipper.bond=1"), "clipper.bond"),
        (("dpsgd", "--noise-multiplier", "-1"), "noise-multiplier"),
        (("dpsgd", "--confidence", "1"), "confidence"),
    ],
)
def test_mistakes_are_one_line_and_status_two(args: tuple[str, ...], says: str) -> None:
    result = mechanism(*args)
    assert result.exit_code == 2
    assert says in one_line(result)
