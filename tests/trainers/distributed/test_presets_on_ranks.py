"""Every preset trains on ranks, and the audit of a mechanism runs on their kernel."""

from __future__ import annotations

import pytest
import torch
from dpigu.audits.verdict import Verdict
from dpigu.mechanisms import PRESETS

from tests.support.depth import DEEP
from tests.support.rank_groups import RankGroup
from tests.trainers.distributed import cases

FULLY = pytest.mark.skipif(not DEEP, reason="the laws of the kernel of ranks say it for less")
GLOBAL = ("voted-top-k", "gep", "quantile-clipping", "blt")
"""Votes and a top-k, a subspace, a query that moves the clipping bound, and decayed past sums."""


@pytest.mark.deep
@pytest.mark.parametrize("name", sorted(PRESETS) if DEEP else GLOBAL)
def test_a_preset_trains_on_ranks(name: str, two: RankGroup) -> None:
    """Ranks hold the same bits after three steps, stages' states among them."""
    first, second = two.same(cases.preset, name)
    assert first.keys() == second.keys()
    for key, tensor in first.items():
        assert torch.equal(tensor, second[key]) and bool(tensor.isfinite().all()), key


@pytest.mark.deep
@FULLY
def test_the_kernel_of_ranks_passes_the_audit_of_its_mechanism(two: RankGroup) -> None:
    """Every rank runs the audit on its own part of each batch, and reads the same releases."""
    found = two.same(cases.audited, cases.training_plan(4))
    assert {audit.verdict for audit in found} == {Verdict.NOT_CONTRADICTED}
    assert found[0].tests == found[1].tests


@pytest.mark.deep
@FULLY
def test_the_audit_sees_a_kernel_of_ranks_that_draws_too_little_noise(two: RankGroup) -> None:
    found = two.same(cases.with_bug, "half of the noise", cases.audited, cases.training_plan(4))
    assert {audit.verdict for audit in found} == {Verdict.CONTRADICTED}
