"""Members against made-up records: in worlds where c and ε are known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from dpigu.audits.external.made_up import BeyondBaseline, beyond_baseline

from dpigu import DataError, Verdict, audit_scores, read_scores

C, EPSILON = 0.5, 1.5
World = tuple[np.ndarray, np.ndarray, np.ndarray]


def world(seed: int, rows: int = 4000, c: float = C, epsilon: float = EPSILON) -> World:
    """Model's scores, baseline's scores and membership.

    A real record is 1 with probability 0.8, a made-up one with e^−c of that; the model answers
    "member" with probability e^ε/(1 + e^ε) for a member, and 1/(1 + e^ε) for another.
    """
    draw = np.random.default_rng(seed)
    members = draw.integers(0, 2, rows)
    x = draw.random(rows) < 0.8 * np.where(members == 1, 1, math.exp(-c))
    right = draw.random(rows) < 1 / (1 + math.exp(-epsilon))
    said = np.where(right, members, 1 - members)
    ties = draw.random((2, rows)) / 10
    return x + said + ties[0], x + ties[1], members


def test_both_bounds_hold_and_their_difference_is_near_epsilon() -> None:
    found = [beyond_baseline(*world(seed), delta=0.0) for seed in range(8)]
    assert sum(f.baseline > C for f in found) <= 1
    assert sum(f.together > C + EPSILON for f in found) <= 1
    assert abs(np.median([f.epsilon for f in found]) - EPSILON) < 0.2


def test_a_model_that_tells_nothing_leaves_no_difference() -> None:
    found = beyond_baseline(*world(0, epsilon=0.0), delta=0.0)
    assert found.epsilon < 0.2 < found.baseline


def test_a_baseline_that_sees_nothing_lets_the_making_pass_for_the_model() -> None:
    """Why it is no bound: here half of the difference is how the records were made."""
    scores, _, members = world(0, epsilon=0.0)
    assert beyond_baseline(scores, np.zeros(len(scores)), members, delta=0.0).epsilon > 0.25


def test_a_model_that_publishes_few_members_is_not_beyond_its_delta() -> None:
    """Each member is told with probability δ: (0, δ)-DP, and made-up records are like real ones.

    So c + ε = 0, and a bound without δ is above 1. False positives: at most 2.5% a seed.
    """
    delta = 1e-3
    draw = np.random.default_rng(0)
    found = []
    for _ in range(4):
        members = draw.integers(0, 2, 100_000)
        scores = ((members == 1) & (draw.random(100_000) < delta)) + draw.random(100_000) / 10
        found.append(beyond_baseline(scores, scores, members, delta=delta))
    assert sum(f.together > 0 for f in found) <= 1
    assert min(f.baseline for f in found) > 1  # of the same scores, with no δ


def test_of_equal_scores_the_made_up_ones_are_accused_first() -> None:
    members = np.array([1] * 500 + [0] * 500)
    same = np.zeros(1000)
    assert beyond_baseline(same, same, members, delta=0.0) == BeyondBaseline(
        together=0.0, baseline=0.0, confidence=0.95
    )


def test_it_is_told_beside_an_invalid_audit(tmp_path: Path) -> None:
    scores, baseline, members = world(1)
    lines = [f"{s},{b},{m}" for s, b, m in zip(scores, baseline, members, strict=True)]
    path = tmp_path / "s.csv"
    path.write_text("score,baseline,member\n" + "\n".join(lines))
    values, told, alone = read_scores(path)
    audit = audit_scores(values, told, coins=False, baseline=alone, claim_epsilon=1.0, delta=1e-5)
    assert audit.report.verdict is Verdict.INVALID_AUDIT
    facts = dict(beyond_baseline(scores, baseline, members, delta=1e-5).facts())
    assert facts.items() <= {row["name"]: row["value"] for row in audit.data["facts"]}.items()
    assert "no bound" in facts["difference"]
    with pytest.raises(DataError, match="coins need none"):
        audit_scores(values, told, coins=True, baseline=alone, claim_epsilon=1.0, delta=1e-5)
    with pytest.raises(DataError, match="one number a row"):
        beyond_baseline(scores, baseline[:5], members, delta=0.0)
