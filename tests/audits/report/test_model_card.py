"""The card's section says what was claimed and found, and nothing computed from real records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from dpigu.audits.report import model_card as room
from dpigu.trainers.runs import RunFolder

from dpigu import card

SUMMARY = {
    "private": True,
    "epsilon": 3.99991,
    "delta": 1e-5,
    "adjacency": "add-or-remove-one",
    "unit": None,
    "accountant": "prv",
    "records": 1500,
}
REPORT: dict[str, Any] = {
    "verdict": "NOT CONTRADICTED",
    "claim_epsilon": 4.0,
    "delta": 1e-5,
    "p_value": 0.5,
    "lower_bound": 1.23456,
    "ceiling": 4.56789,
    "confidence": 0.95,
    "kind": "gradient",
    "canaries": 500,
    "powerless": False,
    "as_claimed": {"noise": 1.0101, "reach": 0.9199, "epsilon": 3.5559, "confidence": 0.95},
    "tests": [{"name": "one run", "share": 0.45}],
    "assumptions": ["Every coin was fair."],
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    folder = RunFolder.begin(tmp_path / "run", claimed=True)
    folder.finish_begin(tmp_path / "run")
    folder.release()
    monkeypatch.setattr(room.RunFolder, "existing", lambda path: folder)
    monkeypatch.setattr(room.RunFolder, "summary", lambda self: SUMMARY)
    return folder


def written(run: RunFolder, **changed: Any) -> str:
    (run.private / "report.json").write_text(json.dumps(REPORT | changed))
    return card(run.path)


def test_it_rounds_a_claim_up_and_bounds_down(run: RunFolder) -> None:
    text = written(run)
    assert "ε = 4 at δ = 1e-05" in text and "  epsilon: 4.0000" in text
    for said in ("ε ≥ 1.23,", "4.56 at most", "below 1.02", "above 0.919", "ε ≥ 3.55 "):
        assert said in text
    assert "- Every coin was fair." in text and "never proves" in text
    assert text.startswith("---\ntags:\n- differential-privacy\n")


def test_numbers_of_real_records_are_not_published(run: RunFolder) -> None:
    text = written(run, kind="mislabelled", as_claimed=None)
    assert "NOT CONTRADICTED" in text and "not published" in text
    assert not any(number in text for number in ("1.23", "4.56", "0.5 at"))


def test_without_an_audit_it_says_so(run: RunFolder) -> None:
    assert "No audit" in card(run.path)


def test_an_invalid_audit_and_a_powerless_one_are_named(run: RunFolder) -> None:
    assert "no verdict" in written(run, verdict="INVALID AUDIT", p_value=None)
    assert "hardly any power" in written(run, powerless=True)
