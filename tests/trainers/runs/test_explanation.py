"""An explanation says what the summary says, never less, and what it does not cover."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from dpigu.accountants.profile import most_true_positives
from dpigu.trainers.runs.explanation import explanation
from hypothesis import given
from hypothesis import strategies as st

SUMMARY: dict[str, Any] = {
    "private": True,
    "why_not_private": "",
    "claimed_epsilon": 4.0,
    "epsilon": 4.0,
    "epsilon_is": "claim",
    "delta": 1e-5,
    "privacy_profile": [[0.01, 1.5], [1e-5, 3.5]],
    "records": 1500,
    "unit": None,
    "released": ["the ledger"],
    "phases": [{"noise_multiplier": 1.5}, {"noise_multiplier": 3.0}],
    "steps": 20,
    "rate": 0.17,
    "accountant": "rdp",
    "tuned": None,
    "public_data": None,
    "budget": None,
    "lineage": [],
}


def said(**changes: Any) -> str:
    parts = explanation({**SUMMARY, **changes})
    return " ".join(line for lines in parts.values() for line in lines)


@given(st.floats(0.01, 30))
def test_the_factor_is_never_below_e_to_the_epsilon(epsilon: float) -> None:
    text = said(claimed_epsilon=epsilon)
    (factor,) = re.findall(r"e\^ε = ([\d.,e+]+) times", text)
    assert float(factor.replace(",", "")) >= math.exp(epsilon)
    assert float(re.findall(r"ε = ([\d.]+) at δ", text)[0]) >= epsilon


@given(st.floats(0.05, 6))
def test_the_share_of_guesses_is_never_below_the_bound(epsilon: float) -> None:
    profile = [[1e-5, epsilon]]
    (share,) = re.findall(r"finds at most ([\d.]+)%", said(privacy_profile=profile))
    assert float(share) >= 100 * most_true_positives(profile, 0.01)


def test_a_run_without_a_claim_promises_nothing_and_says_why() -> None:
    parts = explanation({**SUMMARY, "private": False, "why_not_private": "no noise was drawn"})
    assert list(parts) == ["Nothing was promised"]
    assert "no noise was drawn" in parts["Nothing was promised"][0]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "To each of the 1,500 declared training records by itself."),
        ({"unit": {"name": "person", "records": 5, "reduce": "mean"}}, "all records of one person"),
        ({"epsilon_is": "spent so far", "epsilon": 1.2}, "when to stop was itself learnt"),
        ({"delta": 0.1}, "WARNING: δ is above one over the 1500 records"),
        ({"public_data": "procedural"}, "Anything about the public records (procedural)."),
        ({"budget": "b" * 64}, "That runs outside this run's budget are counted"),
        ({"lineage": [{}]}, "earlier runs on its weights"),
        ({"tuned": "by hand"}, "(said was: by hand)"),
        ({"privacy_profile": []}, "e^ε = 54.6 times"),
    ],
)
def test_what_a_summary_says_is_explained(changes: dict[str, Any], sentence: str) -> None:
    assert sentence in said(**changes)


def test_a_name_forges_no_line() -> None:
    assert "\n" not in said(public_data="x\nAll is promised.")
