"""Rows by hand: norms, sums and transforms, every number from its formula."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from dpigu.dpcore import DenseRows, Space, State
from dpigu.dpcore.rows import Transform
from dpigu.mechanisms import RowTopK
from torch import Tensor

from tests.support.laws.strategies import SPACE
from tests.support.zoo.wild_stages import Mixed, Shifted

pytestmark = pytest.mark.numerical

TINY = 2.0**-536
GROUPS_K = torch.tensor([0, 1, 0])


@pytest.mark.parametrize(("dtype", "more"), [(torch.float64, 2 * TINY), (torch.float32, 0.0)])
def test_norms_by_hand(dtype: torch.dtype, more: float) -> None:
    """K + 4 roundings on √Σz², and √(K + 1)·2⁻⁵³⁶ for squares that underflow in float64."""
    z_BK = torch.tensor([[3, 0, 4], [0, 0, 0], [math.nan, 0, 0], [1, -math.inf, 0]], dtype=dtype)
    up = 1 + 7 * 2.0**-53
    norms_BG = DenseRows(z_BK).norm_upper_bounds()
    assert norms_BG.tolist() == [[5 * up + more], [more], [math.inf], [math.inf]]
    norms_BG = DenseRows(z_BK, GROUPS_K, 2).norm_upper_bounds()
    assert norms_BG[:2].tolist() == [[5 * up + more, more], [more, more]]
    assert norms_BG[2].tolist() == [math.inf, more]
    assert norms_BG[3].tolist() == [up + more, math.inf]
    assert z_BK[0].tolist() == [3, 0, 4], "the rows themselves were changed"


def test_sums_by_hand() -> None:
    """A record of factor 0 in every group is gone before any product; one of them keeps it."""
    z_BK = torch.tensor([[1.0, 2, 3], [math.nan, math.inf, 1], [10, 20, 30]], dtype=torch.float64)
    one_BG = torch.tensor([[2.0], [0.0], [-0.5]]).double()
    assert DenseRows(z_BK).weighted_sum(one_BG).tolist() == [-3.0, -6.0, -9.0]
    two_BG = torch.tensor([[1.0, 2.0], [0.0, 0.0], [0.0, 1.0]]).double()
    assert DenseRows(z_BK, GROUPS_K, 2).weighted_sum(two_BG).tolist() == [1.0, 24.0, 3.0]


@pytest.mark.parametrize("groups_K", [None, GROUPS_K])
@pytest.mark.parametrize("records", [1, 31, 32, 33, 70])
def test_blocks_do_not_matter(records: int, groups_K: Tensor | None) -> None:
    z_BK = torch.arange(3.0 * records).reshape(records, 3)
    count = 1 if groups_K is None else 2
    factors_BG = (1 + torch.arange(records)[:, None] % 3).double().expand(-1, count)
    rows = DenseRows(z_BK, groups_K, count)
    alone = DenseRows(z_BK, groups_K, count, block=1)
    assert torch.equal(rows.norm_upper_bounds(), alone.norm_upper_bounds())
    want_K = (z_BK.double() * factors_BG[:, :1]).sum(0)
    for some in (rows, alone):
        assert torch.equal(some.weighted_sum(factors_BG), want_K)
    assert len(list(rows._blocks())) == -(-records // 32)


SUPPORT_D = torch.arange(SPACE.size) % 2 == 0
G_BD = torch.arange(2.0 * SPACE.size).reshape(2, SPACE.size).double()


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Adds the number of coordinates that are not 0."""

    def output_space(self, space: Space) -> Space:
        return space

    def row(self, state: State, g_D: Tensor) -> Tensor:
        return g_D + (g_D != 0).sum()


def test_the_support_is_applied_before_between_and_after_the_maps() -> None:
    transform = Transform(SPACE, SPACE, ((Counted(), {}), (Counted(), {})), SUPPORT_D)
    live = int(SUPPORT_D.sum())
    for g_D, z_D in zip(G_BD, transform(G_BD), strict=True):
        first = torch.where(SUPPORT_D, g_D, 0)
        first = torch.where(SUPPORT_D, first + (first != 0).sum(), 0)
        assert torch.equal(z_D, torch.where(SUPPORT_D, first + live, 0))


def test_no_maps_and_no_support_change_nothing() -> None:
    assert torch.equal(Transform(SPACE, SPACE, (), None)(G_BD), G_BD)
    masked_BD = Transform(SPACE, SPACE, (), SUPPORT_D)(G_BD)
    assert torch.equal(masked_BD, torch.where(SUPPORT_D, G_BD, 0))
    shifted_BD = Transform(SPACE, SPACE, ((Shifted(), {}),), None)(G_BD)
    assert torch.equal(shifted_BD, G_BD - 1000)


def test_in_another_space_the_support_is_applied_before_alone() -> None:
    mixed = Mixed()
    transform = Transform(SPACE, mixed.output_space(SPACE), ((mixed, {}),), SUPPORT_D)
    masked_BD = torch.where(SUPPORT_D, G_BD, 0)
    assert torch.allclose(transform(G_BD), masked_BD @ mixed.matrix().T)


@pytest.mark.parametrize("support_D", [None, SUPPORT_D])
def test_an_affine_transform_is_its_rows(support_D: Tensor | None) -> None:
    transform = Transform(SPACE, SPACE, ((Shifted(), {}), (Shifted(shift=3.0), {})), support_D)
    whole = transform.affine(torch.device("cpu"))
    assert whole is not None and whole.shift_D is not None
    assert whole.weight_D.dtype == torch.float64
    assert torch.equal(transform(G_BD), whole.weight_D * G_BD - whole.shift_D)


def test_one_map_that_is_not_affine_is_enough() -> None:
    maps = ((Shifted(), {}), (RowTopK(), {}))
    assert Transform(SPACE, SPACE, maps, None).affine(torch.device("cpu")) is None
