"""`dpigu account ledger`: ε from the ledger alone, as a claim or as what was spent so far."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dp_accounting import dp_event, rdp
from dpigu.accountants.base import rounded_up
from dpigu.trainers.runs import RunFolder

from tests.cli.dpigu.test_train import interrupt_at, summary_of
from tests.support.dpigu_command import TINY, dpigu, one_line, strict_json
from tests.trainers.runs.test_ledger import rebuilt

OPTIONS = ("--preset", "dpsgd", *TINY, "--steps", 6, "--noise-multiplier", 1, "--quiet")


def test_the_ledger_alone_says_what_the_summary_says(tmp_path: Path) -> None:
    out, event = tmp_path / "run", tmp_path / "event.json"
    assert dpigu("train", *OPTIONS, "--out", out).exit_code == 0
    summary = summary_of(out)
    for path in (out / "public").iterdir():
        if path.name != "ledger.jsonl":
            path.unlink()
    result = dpigu("account", "ledger", out, "--event", event, "--json")
    assert result.exit_code == 0, result.stderr
    told = strict_json(result.stdout)
    assert (told["epsilon"], told["delta"], told["steps"]) == (summary["epsilon"], 1e-5, 6)
    assert told["epsilon_is"] == "claim" and told["ended"] == "plan"
    (mechanism,) = told["mechanisms"]
    assert (mechanism["steps"], mechanism["planned"], mechanism["noise_multiplier"]) == (6, 6, 1)
    theirs = rdp.RdpAccountant()
    theirs.compose(rebuilt(json.loads(event.read_text())))
    assert theirs.get_epsilon(1e-5) == pytest.approx(told["epsilon"], rel=1e-6)
    assert isinstance(rebuilt(mechanism["event"]), dp_event.PoissonSampledDpEvent)
    assert (
        f"ε = {rounded_up(told['epsilon'])} at δ = 1e-05" in dpigu("account", "ledger", out).stdout
    )


def test_an_unfinished_run_has_spent_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    interrupt_at(monkeypatch, 3, KeyboardInterrupt())
    assert dpigu("train", *OPTIONS, "--out", out).exit_code == 130
    told = strict_json(dpigu("account", "ledger", out, "--json").stdout)
    assert told["epsilon_is"] == "spent so far" and told["steps"] == 3
    assert told["epsilon"] < told["claimed_epsilon"]
    text = dpigu("account", "ledger", out).stdout
    assert "spent so far" in text and "fixed before the first step" in text


def test_a_ledger_that_is_shorter_than_the_checkpoint_knows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    interrupt_at(monkeypatch, 4, KeyboardInterrupt())
    assert dpigu("train", *OPTIONS, "--out", out).exit_code == 130
    ledger = out / "public/ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[:2]))
    refused = dpigu("account", "ledger", out)
    assert refused.exit_code == 2 and "lacks lines" in one_line(refused)


def test_what_is_no_ledger_is_one_line(tmp_path: Path) -> None:
    missing = dpigu("account", "ledger", tmp_path)
    assert missing.exit_code == 2 and "cannot be read" in one_line(missing)
    (tmp_path / "public").mkdir()
    (tmp_path / "public/ledger.jsonl").write_text('{"phase": "main", "step": 0}\n')
    damaged = dpigu("account", "ledger", tmp_path)
    assert damaged.exit_code == 2 and "head cannot be read" in one_line(damaged)


def test_a_damaged_folder_is_exit_2_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3, KeyboardInterrupt())
        assert dpigu("train", *OPTIONS, "--out", out).exit_code == 130
    (out / "public/checkpoint").write_bytes(b"")
    refused = dpigu("train", "--resume", "--out", out)
    (line,) = refused.stderr.splitlines()
    assert refused.exit_code == 2 and "checkpoint is damaged" in line
    assert RunFolder(out).ledger().steps == 3
