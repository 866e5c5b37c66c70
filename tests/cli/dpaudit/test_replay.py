"""`dpaudit replay`: presets and configurations in, a verdict as the exit status."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result
from dpigu.cli.dpaudit.main import main

from tests.cli.dpaudit.test_mechanism import configuration
from tests.support.dpigu_command import one_line, strict_json


def replay(*args: object) -> Result:
    """Run `dpaudit replay` with these arguments."""
    return CliRunner().invoke(main, ["replay", *map(str, args)], prog_name="dpaudit")


def test_a_configuration_is_replayed(tmp_path: Path) -> None:
    result = replay(configuration(tmp_path / "plan.toml"), "--json")
    assert result.exit_code == 0, result.output
    report = strict_json(result.stdout)
    assert report["verdict"] == "NOT CONTRADICTED" and report["releases"] == 3
    assert report["leaks"] == [] and 0 < report["furthest"] <= 1


def test_an_unknown_name_is_one_line() -> None:
    result = replay("dpsdg")
    assert result.exit_code == 2
    assert "there is no preset and no file of that name" in one_line(result)
