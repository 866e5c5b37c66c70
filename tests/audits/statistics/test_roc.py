"""ROC estimates: exact on small cases, and intervals that hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from dpigu.audits import auc, roc_curve, tpr_at
from dpigu.dpcore import DataError
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

pytestmark = pytest.mark.numerical

scores = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=30)


@given(members=scores, others=scores)
def test_auc_is_the_chance_that_a_member_scores_higher(
    members: list[float], others: list[float]
) -> None:
    pairs = [(a > b) + 0.5 * (a == b) for a in members for b in others]
    found = auc(members, others)
    assert found.value == pytest.approx(np.mean(pairs))
    assert 0 <= found.low <= found.value + 1e-12 and found.value - 1e-12 <= found.high <= 1


@given(members=scores, others=scores, fpr=st.floats(0.01, 0.99))
def test_tpr_accuses_no_more_than_it_may_and_finds_the_most_it_can(
    members: list[float], others: list[float], fpr: float
) -> None:
    found = tpr_at(members, others, fpr)
    a, b = np.array(members), np.array(others)
    allowed = [t for t in (-np.inf, *a, *b) if np.mean(b > t) <= fpr]
    assert found.value == pytest.approx(max(np.mean(a > t) for t in allowed))
    assert found.low <= found.value <= found.high


def test_the_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """200 samples of a known pair of normals: 95% intervals miss in 21 or more with p < 0.1%."""
    draw = np.random.default_rng(0)
    true_auc, true_tpr = norm.cdf(1 / np.sqrt(2)), norm.sf(norm.isf(0.1) - 1)
    missed = np.zeros(2)
    for _ in range(200):
        a, b = draw.normal(1, 1, 150), draw.normal(0, 1, 150)
        for i, (found, true) in enumerate(((auc(a, b), true_auc), (tpr_at(a, b, 0.1), true_tpr))):
            missed[i] += not found.low <= true <= found.high
    assert missed.max() <= 20


def test_too_few_non_members_bound_no_small_rate_from_below() -> None:
    assert tpr_at(np.arange(100.0) + 1000, np.arange(100.0), 0.001).low == 0
    assert tpr_at(np.arange(9000.0) + 9000, np.arange(9000.0), 0.001).low > 0.99


def test_a_perfect_separation_is_not_certain() -> None:
    found = auc([2.0] * 10, [1.0] * 10)
    assert found.value == 1 and 0.7 < found.low < 1


def test_a_curve_rises_to_the_corner() -> None:
    draw = np.random.default_rng(1)
    points = roc_curve(draw.normal(1, 1, 300), draw.normal(0, 1, 300))
    assert [p.fpr for p in points] == sorted(p.fpr for p in points)
    assert [p.tpr for p in points] == sorted(p.tpr for p in points)
    assert points[-1].fpr == points[-1].tpr == 1


@pytest.mark.parametrize("bad", [[], [float("nan")]])
def test_no_scores_and_nan_are_refused(bad: list[float]) -> None:
    with pytest.raises(DataError):
        auc(bad, [1.0])
    with pytest.raises(DataError):
        tpr_at([1.0], bad, 0.1)
    with pytest.raises(DataError, match="rate"):
        tpr_at([1.0], [1.0], 0.0)
