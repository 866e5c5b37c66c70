"""`dpigu budget` and `dpigu train --budget`: refused in one line, before anything is spent."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.dpigu_command import dpigu, one_line

RUN = (
    *("train", "--preset", "dpsgd", "--data", "digits", "--model", "linear", "--steps", 4),
    *("--accountant", "rdp", "--noise-multiplier", 1, "--quiet"),
)


EPSILON = 4.2
"""Room for one run, of ε = 3.84 by RDP, and not for two."""


def test_runs_share_a_budget_until_it_is_spent(tmp_path: Path) -> None:
    file = tmp_path / "digits.budget"
    assert dpigu("budget", "create", file, "--epsilon", EPSILON, "--delta", 1e-5).exit_code == 0
    first = dpigu(*RUN, "--budget", file, "--out", tmp_path / "a", "--tuned", "on other data")
    assert first.exit_code == 0, first.stderr
    statement = (tmp_path / "a/public/STATEMENT.txt").read_text()
    assert "Tuning: on other data; it is not charged.\n" in statement
    assert "keep one (ε, δ) together" in statement
    told = json.loads(dpigu("budget", "show", file, "--json").stdout)
    assert 0.5 < told["taken"] < 1 and told["filter"]["kind"] == "renyi"
    second = dpigu(*RUN, "--budget", file, "--out", tmp_path / "b")
    assert second.exit_code == 2 and "would overspend the budget" in one_line(second)
    assert not (tmp_path / "b").exists()
    shown = dpigu("budget", "show", file).stdout
    assert "for everything that these runs release together" in shown
    assert "dpsgd on digits" in shown
    config = tmp_path / "a/public/config.toml"
    declared = ("--declared", config, "--declared", config)
    two = ("budget", "create", tmp_path / "two", "--epsilon", 20, "--delta", 1e-5, *declared)
    assert dpigu(*two).exit_code == 0
    little = dpigu("budget", "create", tmp_path / "x", "--epsilon", 1, "--delta", 1e-5, *declared)
    assert little.exit_code == 2 and "do not fit the budget together" in one_line(little)


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    file = tmp_path / "b"
    create = ("budget", "create", file, "--epsilon", 4, "--delta", 1e-5)
    assert dpigu(*create).exit_code == 0
    for arguments, said in (
        (create, "never replaced"),
        (("budget", "show", tmp_path / "none"), "no such budget"),
        (("budget", "close", file, "--run", "abc"), "names no run of the budget"),
        ((*create[:2], tmp_path / "c", *create[3:], "--order", 1.05), "at this order"),
        ((*RUN, "--budget", tmp_path / "none"), "dpigu budget create"),
    ):
        refused = dpigu(*arguments)
        assert refused.exit_code == 2 and said in one_line(refused), refused.stderr
