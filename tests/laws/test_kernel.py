"""One step by hand: every number of a release, from the formulas and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from dpigu.dpcore import (
    BoundPipeline,
    Clock,
    DenseRows,
    Kernel,
    PhaseContext,
    Pipeline,
    PrivacyError,
    Release,
    Space,
    State,
    kernel,
)
from dpigu.dpcore.sampling import max_batch
from dpigu.mechanisms import Flat, Gaussian
from torch import Tensor

from tests.laws.noise.noise_words import Rising
from tests.support.laws.strategies import SPACE
from tests.support.zoo.wild_stages import Mixed, Unmixed, WildClipper, WildQuery

pytestmark = pytest.mark.numerical

SMALL = Space(("a.weight", "b.weight"), ((2, 1), (1, 1)))
SIGMA, RATIO, BATCH, ERROR = 3.0, 0.5, 4.0, 2.0**-10
GRID, GRID_OF_QUERY = 2.0**-24, 2.0**-23
"""26 to 27 bits below σC (1 + margin), 7.7 and 9.7."""
MARGIN = 2 * 148 * (ERROR + 148 * 2.0**-53)
CLIPPER = WildClipper(bound=2.0, groups="parameter", factor=1.0, proportional=False)
QUERY = WildQuery(bound=5.0, factor=1.0, noise_ratio=RATIO)
NAN = float("nan")
G_BD = torch.tensor([[3, 0, 4], [NAN, 0, 0], [0.3, 0, 0.4], [1e200, 1e200, 0]], dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class AllButTheLast:
    """The support of every step: the last coordinate is frozen."""

    monotone: bool = True
    live: bool = False

    def init(self, context: PhaseContext, reads: object) -> State:
        return {"all_D": torch.ones(context.space.size, dtype=torch.bool)}

    def update(self, state: State, release: Release, reads: object) -> State:
        return state

    def support(self, state: State, clock: Clock) -> Tensor:
        support_D = state["all_D"].clone()
        support_D[-1] = False
        return support_D


def step(
    stages: Pipeline, space: Space, g_BD: Tensor, sizes: tuple[int, ...]
) -> tuple[Release, list[int]]:
    """A release of these gradients in pieces of these sizes; how much noise was drawn."""
    pipeline, noise = BoundPipeline(stages, space), Rising()
    states = pipeline.begin(PhaseContext(space, torch.zeros(space.size).double(), 1, 0))
    context = pipeline.open(states, Clock(0, 1))
    by = stages.clipper.groups

    def pieces() -> Iterator[DenseRows]:
        for piece_BD in g_BD.split(sizes):
            z_BK = context.transform(piece_BD) if len(piece_BD) else torch.zeros(0, space.size)
            yield DenseRows(z_BK, pipeline.output.groups(by), pipeline.output.group_count(by))

    made = Kernel(pipeline, expected_batch=BATCH, relative_error=ERROR, noise=noise)
    return made.release(states, context, pieces())[0], noise.sizes


@pytest.mark.parametrize("sizes", [(4,), (1, 1, 1, 1), (0, 3, 0, 1)])
def test_a_step_by_hand(sizes: tuple[int, ...]) -> None:
    """Of 4 records one is NaN, one too long for float64's squares, one cut to C = 2, one left."""
    noiser = Gaussian(noise_multiplier=SIGMA)
    pipeline = Pipeline(CLIPPER, noiser, scheduler=AllButTheLast(), queries=(QUERY,))
    release, drawn = step(pipeline, SMALL, G_BD, sizes)
    assert drawn == [3, 3]
    std = SIGMA * (2.0 * (1 + MARGIN) + GRID * math.sqrt(3))
    want = [(2.3 + std) / BATCH, 2 * std / BATCH, 0.0]
    assert release.gradient.value.tolist() == pytest.approx(want, abs=GRID / BATCH)
    assert torch.equal(release.noised.value, release.gradient.value)
    assert torch.equal(release.noised.value * BATCH / GRID % 1, torch.zeros(3).double())
    want = [(std / BATCH) ** 2] * 2 + [0.0]
    assert release.gradient.variance.tolist() == pytest.approx(want, rel=1e-12)
    assert release.noised.variance.tolist() == pytest.approx(want, rel=1e-12)
    std = SIGMA * RATIO * (5.0 * (1 + MARGIN) + GRID_OF_QUERY * math.sqrt(3))
    answer = release.queries["WildQuery"]
    want = [(5 / math.sqrt(3) + 0.3 + n * std) / BATCH for n in (1, 2, 3)]
    assert answer.value.tolist() == pytest.approx(want, abs=GRID_OF_QUERY / BATCH)
    assert torch.equal(answer.value * BATCH / GRID_OF_QUERY % 1, torch.zeros(3).double())
    assert answer.variance.tolist() == pytest.approx([(std / BATCH) ** 2] * 3, rel=1e-12)
    assert release.support_D.tolist() == [True, True, False]


def test_a_step_without_noise_draws_none() -> None:
    noiser = Gaussian(noise_multiplier=0.0)
    release, drawn = step(Pipeline(CLIPPER, noiser), SMALL, G_BD[2:3], (1,))
    assert drawn == []
    assert release.gradient.value.tolist() == pytest.approx([0.075, 0, 0.1], rel=1e-12)
    assert not release.gradient.variance.any()


def test_in_another_space_noise_is_everywhere_and_the_support_is_applied_after() -> None:
    rows, posts = (Mixed(),), (Unmixed(),)
    pipeline = Pipeline(
        Flat(bound=2.0), Gaussian(), scheduler=AllButTheLast(), rows=rows, posts=posts
    )
    release, drawn = step(pipeline, SPACE, torch.zeros(0, SPACE.size), ())
    assert drawn == [5]
    assert bool((release.noised.variance > 0).all()) and len(release.noised.variance) == 5
    assert bool((release.gradient.variance[:-1] > 0).all())
    assert float(release.gradient.variance[-1]) == float(release.gradient.value[-1]) == 0.0


@pytest.mark.parametrize(
    ("expected", "most"), [(0.0, 100), (0.25, 111), (4.0, 148), (100.0, 500), (1000.0, 2733)]
)
def test_the_cap_on_a_batch(expected: float, most: int) -> None:
    """2n + 20√n + 100, rounded up."""
    assert max_batch(expected) == most


def test_the_cap_counts_all_pieces_of_a_batch() -> None:
    pipeline, g_BD = Pipeline(CLIPPER, Gaussian()), torch.zeros(149, 3)
    step(pipeline, SMALL, g_BD[1:], (100, 48))
    with pytest.raises(PrivacyError, match="more rows than the rounding margin allows") as caught:
        step(pipeline, SMALL, g_BD, (100, 48, 1))
    assert caught.value.expected == "at most 148"


def test_the_guards_numbers() -> None:
    """1 − 2⁻⁵⁰ at or below the bound, (1 − 2⁻⁵⁰)·C/n above it; G + 4 roundings on a norm."""
    norms_B, bound = torch.tensor([1.0, 2.0, 4.0]).double(), torch.tensor(2.0).double()
    less = 1 - 2.0**-50
    assert kernel.capped(norms_B, bound).tolist() == [less, less, 0.5 * less]
    assert float(kernel.joint_norm(torch.tensor([[3.0, 4.0]]).double())) == 5 * (1 + 6 * 2.0**-53)


@pytest.mark.parametrize("factor", [NAN, math.inf, -math.inf])
def test_a_factor_that_is_not_finite_is_0_and_its_record_is_not_alive(factor: float) -> None:
    clipper = WildClipper(bound=2.0, groups="parameter", factor=factor, proportional=True)
    bound = torch.tensor(2.0).double()
    for norms_G in ([1.0, 1.0], [1.0, math.inf], [NAN, 1.0]):
        norms_BG = torch.tensor([norms_G]).double()
        c_BG, good_B = kernel.guarded_factors(clipper, {}, norms_BG, bound)
        assert c_BG.tolist() == [[0.0, 0.0]] and good_B.tolist() == [False]


def test_a_factor_may_be_negative_and_is_float64() -> None:
    clipper = WildClipper(bound=2.0, groups="parameter", factor=-1.0, proportional=False)
    norms_BG = torch.tensor([[3.0, 4.0], [0.3, 0.4]]).double()
    c_BG, good_B = kernel.guarded_factors(clipper, {}, norms_BG, torch.tensor(2.0).double())
    assert c_BG.dtype == torch.float64 and good_B.tolist() == [True, True]
    assert c_BG.tolist() == [pytest.approx([-0.4] * 2), pytest.approx([-1.0] * 2)]
