"""A step of many ranks is a step of one process: same sum, same noise, same bits everywhere."""

from __future__ import annotations

import pytest
import torch
from dpigu.dpcore import Phase, Pipeline, Plan
from dpigu.mechanisms import BandedToeplitz, BufferedToeplitz, Flat, Gaussian
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.support.laws.strategies import SPACE, batches, dpsgd, plans
from tests.support.laws.strategies import stages as any_stage
from tests.support.rank_groups import Failed, RankGroup
from tests.trainers.distributed import cases

pytestmark = pytest.mark.numerical

ROUNDED = any_stage("noiser").filter(lambda noiser: noiser.law == "gaussian")
STEPS = {"plan": plans(noisers=ROUNDED), "step": st.integers(0, 3), "g_BD": batches()}
WHO = st.lists(st.integers(0, 3), min_size=6, max_size=6).map(torch.tensor)


def law_as_one_process(group: RankGroup, plan: Plan, step: int, g_BD: Tensor, who: Tensor) -> None:
    """Given the same noise a coordinate is the same, or one step of its grid away: the order of a
    sum is not fixed. All ranks hold the same bits, in the stages' states too."""
    owner_B = who[: len(g_BD)]
    alone = cases.release(plan, step, g_BD, owner_B)
    found = group.same(cases.release, plan, step, g_BD, owner_B)
    for one in found[1:]:
        assert one.keys() == found[0].keys()
        assert all(_same_bits(one[key], found[0][key]) for key in one)
    for name in (key.removeprefix("std ") for key in alone if key.startswith("std ")):
        std_K = alone[f"std {name}"]
        assert torch.equal(found[0][f"std {name}"], std_K)
        apart_K = found[0][f"released {name}"] - alone[f"released {name}"]
        assert (apart_K.abs() <= 2.0**-25 * std_K).all()


def _same_bits(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(
        a.contiguous().view(-1).view(torch.uint8), b.contiguous().view(-1).view(torch.uint8)
    )


@given(**STEPS, who=WHO)
def test_two_ranks_are_one_process(
    two: RankGroup, plan: Plan, step: int, g_BD: Tensor, who: Tensor
) -> None:
    law_as_one_process(two, plan, step, g_BD, who)


@given(**STEPS, who=WHO)
def test_four_ranks_are_one_process(
    four: RankGroup, plan: Plan, step: int, g_BD: Tensor, who: Tensor
) -> None:
    law_as_one_process(four, plan, step, g_BD, who)


def test_correlated_noise_of_two_ranks_is_that_of_one_process(two: RankGroup) -> None:
    """Each rank keeps the past sums of its own rows: encoding adds up over ranks as sums do."""
    draw = torch.Generator().manual_seed(0)
    rows = [torch.randn(5, SPACE.size, generator=draw) for _ in range(5)]
    factorisation = BandedToeplitz(bands=3, column=(1.0, 0.6, 0.3))
    pipeline = Pipeline(Flat(bound=1.0), Gaussian(), factorisation=factorisation)
    plan = Plan((Phase("main", pipeline, len(rows)),))
    alone = cases.releases(plan, rows)
    found = two.same(cases.releases, plan, rows)
    assert _same_bits(*found)
    torch.testing.assert_close(found[0], alone, rtol=0, atol=2.0**-22)
    plain = Plan((Phase("main", Pipeline(Flat(bound=1.0), Gaussian()), len(rows)),))
    assert not torch.allclose(cases.releases(plain, rows)[1], alone[1], atol=1e-3)


def law_all_ranks_encode_with_the_numbers_of_the_first(group: RankGroup) -> None:
    """Another machine's search may end at other buffers: the release is that of the first's."""
    rows = [torch.ones(5, SPACE.size) * (t + 1) for t in range(4)]
    factorisation = BufferedToeplitz(bands=2, given=((0.5, 0.5),))
    pipeline = Pipeline(Flat(bound=1.0), Gaussian(), factorisation=factorisation)
    plan = Plan((Phase("main", pipeline, len(rows)),))
    found = group.same(cases.releases_of_other_buffers, plan, rows)
    assert all(_same_bits(found[0], one) for one in found[1:])
    torch.testing.assert_close(found[0], cases.releases(plan, rows), rtol=0, atol=2.0**-22)


def test_all_ranks_encode_with_the_numbers_of_the_first(two: RankGroup) -> None:
    law_all_ranks_encode_with_the_numbers_of_the_first(two)


def law_the_cap_on_a_batch_counts_the_rows_of_all_ranks(group: RankGroup) -> None:
    """The rounding margin is that of one sum, wherever its rows are added: at most 148 here."""
    rows = torch.zeros(149, 24)
    group.same(cases.release, dpsgd(), 0, rows[1:], torch.arange(148))
    for refused in group(cases.release, dpsgd(), 0, rows, torch.arange(149)):
        assert isinstance(refused, Failed) and refused.kind == "PrivacyError"
        assert "more rows than the rounding margin allows" in refused.line


def test_the_cap_on_a_batch_counts_the_rows_of_all_ranks(four: RankGroup) -> None:
    law_the_cap_on_a_batch_counts_the_rows_of_all_ranks(four)
