"""Slots that ranks sample by themselves are one Poisson sample."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import binomtest

from tests.support.rank_groups import RankGroup
from tests.trainers.distributed import cases

DECLARED, PRESENT, RATE, DRAWS = 15, 13, 0.3, 400


def law_every_record_joins_with_the_rate(group: RankGroup) -> None:
    """Each of 13 records in 15 slots on 4 ranks is in a batch at most once, with probability 0.3,
    and any two are together in it with probability 0.09. Falsely failing: one time in 10⁶."""
    joins_TN = torch.stack(group.same(cases.sampled, DECLARED, PRESENT, RATE, DRAWS)).sum(0)
    assert set(joins_TN.unique().tolist()) == {0, 1}
    counts = [(int(k), RATE) for k in joins_TN.sum(0)]
    both = joins_TN.T @ joins_TN
    counts += [(int(both[i, j]), RATE**2) for i in range(PRESENT) for j in range(i)]
    least = min(binomtest(k, DRAWS, q).pvalue for k, q in counts)
    assert least * len(counts) > 1e-6


def test_every_record_joins_with_the_rate(four: RankGroup) -> None:
    law_every_record_joins_with_the_rate(four)


@pytest.mark.parametrize("size", [2, 4])
def test_a_rank_without_records_and_a_batch_without_any(
    size: int, two: RankGroup, four: RankGroup
) -> None:
    """One slot on one of the ranks, sampled and not; two records in three slots."""
    group = {2: two, 4: four}[size]
    for present in (0, 1):
        for sum_N in group.same(cases.summed, 1, 1, 1.0 if present else 1e-9):
            assert sum_N.tolist() == pytest.approx([float(present)])
    for sum_N in group.same(cases.summed, 3, 2, 1.0):
        assert sum_N.tolist() == pytest.approx([1.0, 1.0])
