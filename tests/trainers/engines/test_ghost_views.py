"""Views of a record in the fast engine: positions of one longer sequence, exactly."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from dpigu.dpcore import Space
from dpigu.dpcore.grammar.spaces import Grouping
from dpigu.trainers.engines import GhostEngine, MaterialisingEngine, Norms, trainable
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.support.zoo.ghost_cases import (
    ALIVE,
    BATCH,
    GROUPINGS,
    TRANSFORMS,
    Pair,
    gradients,
    loss,
    transform_of,
    well_conditioned,
)

pytestmark = pytest.mark.numerical

Build = Callable[[], nn.Module]


class Attending(nn.Module):
    """Tokens, self-attention (which falls back to forming its rows), and a shared output."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.mix = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.table(x.to(torch.int64))
        y = y + self.mix(y, y, y, need_weights=False)[0]
        return (y @ self.table.weight.T).mean(1)


CASES: dict[str, tuple[Build, tuple[int, ...], int]] = {
    "linear": (lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)), (5,), 0),
    "sequence": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Flatten(), nn.Linear(12, 2)),
        (3, 3),
        0,
    ),
    "convolution": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1, groups=2),
            nn.GroupNorm(2, 4),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(64, 2),
        ),
        (2, 4, 4),
        0,
    ),
    "tokens": (Attending, (5,), 7),
}


def pair(name: str, views: int, transform: str, grouping: Grouping, seed: int) -> Pair:
    build, shape, tokens = CASES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build().double()
    space = Space.of(trainable(model))
    norms = Norms(space.groups(grouping), space.group_count(grouping))
    draw = torch.Generator().manual_seed(seed)
    if tokens:
        x_BV = torch.randint(tokens, (BATCH, views, *shape), generator=draw)
    else:
        x_BV = torch.randn((BATCH, views, *shape), generator=draw, dtype=torch.float64)
        x_BV[ALIVE:] = torch.nan
    y_BV = torch.randint(3, (BATCH, views), generator=draw)
    valid_B = torch.arange(BATCH) < ALIVE
    at, chosen = dict(trainable(model)), transform_of(space, transform, seed)
    engine = GhostEngine(model, loss, norms, BATCH, None, views)
    full = MaterialisingEngine(model, loss, norms, BATCH, None, views)
    each_VBK = [
        gradients(model, at, x_BV[:ALIVE, v], y_BV[:ALIVE, v], chosen) for v in range(views)
    ]
    return Pair(
        engine.rows(at, x_BV, y_BV, valid_B, chosen),
        full.rows(at, x_BV, y_BV, valid_B, chosen),
        well_conditioned(torch.stack(each_VBK).mean(0), norms),
        engine,
        torch.float64,
    )


@pytest.mark.parametrize("name", CASES)
@given(
    views=st.integers(1, 4),
    transform=st.sampled_from(TRANSFORMS),
    grouping=st.sampled_from(GROUPINGS),
    seed=st.integers(0, 99),
)
def test_both_engines_average_a_records_parts(name, views, transform, grouping, seed):
    pair(name, views, transform, grouping, seed).check()


def test_the_norm_of_a_record_is_that_of_the_mean_and_not_the_mean_of_norms():
    """Views v and −v of a linear model cancel in the weight: the mutant would not see it."""
    model = nn.Linear(3, 2, bias=False).double()
    space = Space.of(trainable(model))
    x_BV = torch.ones(1, 2, 3, dtype=torch.float64)
    x_BV[:, 1] = -1
    engine = GhostEngine(model, lambda o_B, y_B: o_B.sum(1), Norms(None, 1), 1, None, 2)
    rows = engine.rows(
        dict(trainable(model)),
        x_BV,
        torch.zeros(1, 2, dtype=torch.int64),
        torch.ones(1, dtype=torch.bool),
        transform_of(space, "none", 0),
    )
    assert float(rows.norm_upper_bounds()) < 1e-5
    assert float(rows.weighted_sum(torch.ones(1, 1, dtype=torch.float64)).norm()) < 1e-12
