"""LiRA and RMIA against computations that share nothing with ours, record by record, to 1e-6."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist, mean, stdev

import numpy as np
import pytest
from dpigu.audits.membership import ATTACKS
from dpigu.audits.membership.attacks import OWN_VARIANCE_FROM
from dpigu.audits.statistics import tpr_at
from scipy.stats import rankdata

S, N = OWN_VARIANCE_FROM, 120
Row = list[float]


def table() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Margins of N records by S shadows and by the audited model, and who is in each."""
    draw = np.random.default_rng(4)
    member = draw.random(N) < 0.5
    inside = np.array([draw.permutation(S) < S // 2 for _ in range(N)]).T
    hard = draw.normal(0, 2, N)
    shadows = hard + 1.3 * inside + draw.normal(size=(S, N)) * draw.uniform(0.5, 2, N)
    return hard + 1.3 * member + draw.normal(size=N), shadows, inside, member


def online(phi: float, seen: Row, unseen: Row) -> float:
    a, b = (NormalDist(mean(side), stdev(side)) for side in (seen, unseen))
    return math.log(a.pdf(phi)) - math.log(b.pdf(phi))


def offline(phi: float, seen: Row, unseen: Row) -> float:
    return (phi - mean(unseen)) / stdev(unseen)


@pytest.mark.parametrize(
    ("name", "reference"), [("lira-online", online), ("lira-offline", offline)]
)
def test_lira_is_the_ratio_of_fitted_normal_densities(
    name: str, reference: Callable[[float, Row, Row], float]
) -> None:
    phi, shadows, inside, _ = table()
    found = ATTACKS[name].score(phi, shadows, inside)
    for i in range(N):
        seen, unseen = shadows[inside[:, i], i].tolist(), shadows[~inside[:, i], i].tolist()
        assert found[i] == pytest.approx(reference(float(phi[i]), seen, unseen), abs=1e-6)


def test_rmia_is_the_share_of_records_that_one_beats() -> None:
    """p(x)/P(x) ≥ p(z)/P(z) counted pair by pair, P from the shadows that leave the record out."""
    phi, shadows, inside, _ = table()

    def ratio(i: int) -> float:
        out = mean(1 / (1 + math.exp(-m)) for m in shadows[~inside[:, i], i].tolist())
        return (1 / (1 + math.exp(-phi[i]))) / (0.5 * (1.3 * out + 0.7))

    ratios = [ratio(i) for i in range(N)]
    expected = [mean(float(r >= z) for z in ratios) for r in ratios]
    np.testing.assert_allclose(ATTACKS["rmia"].score(phi, shadows, inside), expected, atol=1e-6)


def test_tpr_at_a_thousandth_is_the_share_above_all_but_a_thousandth() -> None:
    """5,000 a side: five of those who were not in may be accused; the interval holds the truth."""
    draw = np.random.default_rng(6)
    inside, outside = draw.normal(2, 1, 5000), draw.normal(0, 1, 5000)
    found = tpr_at(inside, outside, 0.001)
    ranks = rankdata(-np.concatenate([inside, outside]))
    sixth = np.sort(ranks[5000:])[5]
    assert found.value == pytest.approx(np.mean(ranks[:5000] < sixth), abs=1e-12)
    truth = NormalDist().cdf(2 - NormalDist().inv_cdf(0.999))
    assert found.low < truth < found.high
