"""LiRA and RMIA against the formulas of their authors' published code, record by record, to 1e-6.

Written anew from what that code computes, on arrays of its layouts; nothing of it is copied.
LiRA: tensorflow/privacy, research/mi_lira_2021/plot.py at 3d499e6 (scores of models × records,
medians, numpy's std, norm.logpdf; a low prediction says "member"). RMIA: privacytrustlab,
ml_privacy_meter, attacks.py at a555fce (records × models of softmax values, offline, a strict
comparison with every z).
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from dpigu.audits.membership import ATTACKS
from dpigu.audits.membership.attacks import OWN_VARIANCE_FROM, Attack
from dpigu.audits.statistics import tpr_at
from scipy.special import expit
from scipy.stats import norm
from sklearn.metrics import roc_curve

N = 120
Table = tuple[np.ndarray, np.ndarray, np.ndarray]


def table(shadows: int) -> Table:
    """Margins of N records by the audited model and by shadows, and who is in each of these."""
    draw = np.random.default_rng(4)
    member = draw.random(N) < 0.5
    inside = np.array([draw.permutation(shadows) < shadows // 2 for _ in range(N)]).T
    hard = draw.normal(0, 2, N)
    spread = draw.uniform(0.5, 2, N)
    seen = hard + 1.3 * inside + draw.normal(size=(shadows, N)) * spread
    return hard + 1.3 * member + draw.normal(size=N), seen, inside


def of_sides(seen: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Records × shadows of a side, as many on each side of every record."""
    columns = range(seen.shape[1])
    return (
        np.array([seen[inside[:, j], j] for j in columns]),
        np.array([seen[~inside[:, j], j] for j in columns]),
    )


def lira_online(phi: np.ndarray, seen: np.ndarray, inside: np.ndarray, fixed: bool) -> np.ndarray:
    """Their prediction, low for a member; `fixed`: one deviation, of all that were in."""
    there, absent = of_sides(seen, inside)
    deviations = [np.std(side, axis=1) for side in (there, absent)]
    if fixed:
        deviations = [np.std(there), np.std(there)]
    with_, without = (
        -norm.logpdf(phi, np.median(side, axis=1), deviation + 1e-30)
        for side, deviation in zip((there, absent), deviations, strict=True)
    )
    return np.asarray(with_ - without)


def lira_offline(phi: np.ndarray, seen: np.ndarray, inside: np.ndarray, fixed: bool) -> np.ndarray:
    """Their prediction: the density of those who were out."""
    _, absent = of_sides(seen, inside)
    deviation = np.std(absent) if fixed else np.std(absent, axis=1)
    return np.asarray(norm.logpdf(phi, np.median(absent, axis=1), deviation + 1e-30))


def rmia(phi: np.ndarray, seen: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The share of z that x beats, a = 0.3, γ = 1; every record serves as z."""
    softmax, absent = expit(phi), expit(of_sides(seen, inside)[1])
    prior = 0.65 * absent.mean(1) + 0.35
    beats = (softmax / prior)[:, None] / (softmax / prior)[None, :] > 1.0
    return np.asarray(beats.mean(1))


def test_online_lira_is_theirs_negated() -> None:
    made = table(OWN_VARIANCE_FROM)
    ours = ATTACKS["lira-online"].score(*made)
    np.testing.assert_allclose(ours, -lira_online(*made, fixed=False), atol=1e-6)


def test_offline_lira_is_the_deviation_in_their_density() -> None:
    made = table(OWN_VARIANCE_FROM)
    ours = ATTACKS["lira-offline"].score(*made)
    deviation = np.std(of_sides(*made[1:])[1], axis=1)
    theirs = -lira_offline(*made, fixed=False) - np.log(deviation * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(ours**2 / 2, theirs, atol=1e-6)


@pytest.mark.parametrize("name", ["lira-online", "lira-offline"])
def test_with_few_shadows_it_is_theirs_of_a_fixed_variance_but_for_one_factor(name: str) -> None:
    """Their one deviation counts how records differ too; it is a factor, and moves no rank."""
    made = table(OWN_VARIANCE_FROM // 4)
    ours = ATTACKS[name].score(*made)
    if name == "lira-online":
        theirs = -lira_online(*made, fixed=True)
    else:
        ours, far = ours**2, -lira_offline(*made, fixed=True)
        theirs = far - np.log(np.std(of_sides(*made[1:])[1]) * np.sqrt(2 * np.pi))
    factor = float(ours @ theirs / (theirs @ theirs))
    assert factor > 0
    np.testing.assert_allclose(ours, factor * theirs, atol=1e-6)


def test_rmia_is_theirs() -> None:
    made = table(16)
    np.testing.assert_allclose(ATTACKS["rmia"].score(*made), rmia(*made), atol=1e-6)


@pytest.mark.parametrize("mutant", ["mean", "sample", "swapped"])
def test_these_comparisons_see_another_formula(mutant: str) -> None:
    phi, seen, inside = table(OWN_VARIANCE_FROM)
    exact: Attack = ATTACKS["lira-online"].score
    side = of_sides(seen, inside)
    if mutant == "swapped":
        other = exact(phi, seen, ~inside)
    else:
        centre = np.mean if mutant == "mean" else np.median
        ddof = 1 if mutant == "sample" else 0
        parts = [norm.logpdf(phi, centre(x, axis=1), np.std(x, axis=1, ddof=ddof)) for x in side]
        other = parts[0] - parts[1]
    assert np.abs(other + lira_online(phi, seen, inside, fixed=False)).max() > 1e-3


def test_tpr_at_a_thousandth_is_the_last_point_of_the_roc_curve_there() -> None:
    """5,000 a side: five of those who were not in may be accused; the interval holds the truth."""
    draw = np.random.default_rng(6)
    inside, outside = draw.normal(2, 1, 5000), draw.normal(0, 1, 5000)
    found = tpr_at(inside, outside, 0.001)
    labels, scores = np.repeat([1, 0], 5000), np.concatenate([inside, outside])
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert found.value == pytest.approx(true[false <= 0.001][-1], abs=1e-12)
    truth = NormalDist().cdf(2 - NormalDist().inv_cdf(0.999))
    assert found.low < truth < found.high
