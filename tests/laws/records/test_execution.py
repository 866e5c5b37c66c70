"""Execution: microbatch size, record order and engine change a release by rounding at most."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import pytest
import torch
from dpigu.dpcore import Transform
from dpigu.mechanisms import EmaStandardizer, GroupStandardizer, RowTopK
from dpigu.trainers.engines import Norms
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torch import Tensor

from tests.support.exact import exact_square
from tests.support.laws.engines import ENGINES, Task, applies, row_of, tasks
from tests.support.laws.strategies import GROUPINGS, Opened, batches, steps
from tests.support.zoo.wild_stages import WildQuery

pytestmark = pytest.mark.numerical

QUERY = WildQuery(bound=2.0, factor=1.0)
STEPS = steps(queries=st.just(QUERY))


def law_microbatches_and_order(here: Opened, g_BD: Tensor, order: list[int], size: int) -> None:
    """Shuffled records in pieces of any size: the same release, and the same next states.

    Two sums of the same guarded rows differ by at most the rounding margin of the sensitivity.
    """
    index = sorted(range(len(g_BD)), key=lambda i: order[i % len(order)])
    seen = []
    for batch_BD, pieces in ((g_BD, len(g_BD) + 1), (g_BD[index], size)):
        kernel = here.kernel()
        kernel.release(here.states, here.context, here.pieces(batch_BD, pieces))
        seen.append(kernel.bounded)
    bounds = [float(here.pipeline.bound(here.states))]
    bounds += [p.stage.bound for p in here.pipeline.stages.of("query")]
    for one, other, bound in zip(*seen, bounds, strict=True):
        margin = float(one.sensitivity) - bound
        assert float((one.value - other.value).norm()) <= margin


@given(
    here=STEPS,
    g_BD=batches(),
    order=st.permutations(range(6)),
    size=st.integers(1, 7),
)
def test_microbatches_and_order_do_not_matter(
    here: Opened, g_BD: Tensor, order: list[int], size: int
) -> None:
    law_microbatches_and_order(here, g_BD, order, size)


@dataclass(frozen=True)
class Job:
    """A task with a transform of its rows and the clipper's groups."""

    task: Task
    transform: Transform
    norms: Norms


@st.composite
def jobs(draw: DrawFn) -> Job:
    """Any model with a support, standardizers in any tame state, and any grouping."""
    task = draw(tasks())
    space, numbers = task.space, torch.Generator().manual_seed(draw(st.integers(0, 99)))

    def uniform(low: float, high: float) -> Tensor:
        unit = torch.rand(space.size, generator=numbers, dtype=torch.float64)
        return low + (high - low) * unit

    maps = []
    if draw(st.booleans()):
        centre = draw(st.sampled_from((0.0, 1.0, 1e3)))
        state = {"alpha_D": centre * uniform(-1, 1), "beta_D": uniform(0.1, 4)}
        maps.append((EmaStandardizer(), state))
    if draw(st.booleans()):
        weight_P = uniform(0.3, 3)  # the stage declares one weight a parameter
        maps.append((GroupStandardizer(), {"weight_D": weight_P[space.groups("parameter")]}))
    if draw(st.integers(0, 5)) == 0:
        maps.append((RowTopK(ratio=0.5), {"count": torch.tensor(max(1, space.size // 2))}))
    share = draw(st.sampled_from((None, 0.1, 0.6)))
    support_D = None if share is None else uniform(0, 1) < share
    by = draw(st.sampled_from(GROUPINGS))
    norms = Norms(None, 1) if by == "all" else Norms(space.groups(by), space.group_count(by))
    return Job(task, Transform(space, space, tuple(maps), support_D), norms)


def law_engine_keeps_its_contract(job: Job, engine: str) -> None:
    """Norms are never below those of the rows that it sums, and its sums add up.

    ‖row‖ ≤ norm (1 + e) in every group, and ‖Σ c z − Σ c row‖ ≤ 2e Σ c norm, with e the
    engine's stated error; a record that is padding or has weight 0 adds exactly nothing.
    """
    if not applies(engine, job.transform):
        return
    count, groups = len(job.task.x_B), job.norms.count
    valid_B = torch.arange(count) != 1
    made, rows = job.task.rows(engine, job.transform, job.norms, valid_B=valid_B)
    norms_BG = rows.norm_upper_bounds().detach()
    assert norms_BG.shape == (count, groups) and norms_BG.dtype == torch.float64
    assert bool(norms_BG[~valid_B].isinf().all()) and not bool(norms_BG.isnan().any())
    groups_K = job.norms.groups_K
    if groups_K is None:
        groups_K = torch.zeros(job.task.space.size, dtype=torch.int64)
    factors_BG = torch.rand(count, groups, generator=torch.Generator().manual_seed(0)).double()
    factors_BG[~valid_B] = 0
    whole = rows.weighted_sum(factors_BG).detach()
    total, size = torch.zeros_like(whole), 0.0
    slack = 1 + Fraction(made.relative_error)
    for i in range(count):
        if not bool(valid_B[i]):
            continue
        row_K = row_of(rows, i, count, groups)
        for g in range(groups):
            norm = Fraction(float(norms_BG[i, g])) * slack
            assert exact_square(row_K[groups_K == g]) <= norm**2
        total += factors_BG[i, groups_K] * row_K
        size += float((factors_BG[i] * norms_BG[i]).sum())
    limit = (2 * made.relative_error + 2.0**-40) * size
    assert float((whole - total).norm()) <= limit
    assert not rows.weighted_sum(torch.zeros_like(factors_BG)).any()


@pytest.mark.parametrize("engine", ENGINES)
@given(job=jobs())
def test_an_engine_keeps_its_contract(job: Job, engine: str) -> None:
    law_engine_keeps_its_contract(job, engine)


def law_engines_agree(job: Job, engine: str) -> None:
    """Every engine forms the rows of the reference, to the rounding of the model's own type.

    The tolerance is relative to the row before centring, which is what rounding sees.
    """
    if not applies(engine, job.transform):
        return
    count, groups = len(job.task.x_B), job.norms.count
    _, reference = job.task.rows("materialising", job.transform, job.norms)
    _, rows = job.task.rows(engine, job.transform, job.norms)
    unit = 2.0**-24 if job.task.x_B.dtype == torch.float32 else 2.0**-53
    _, plain = job.task.rows("materialising", job.task.plain())
    whole = job.transform.affine(torch.device("cpu"))
    assert whole is not None
    weight_D, shift_D = whole.dense()
    weight, shift = float(weight_D.abs().max()), float(shift_D.norm())
    for i in range(count):
        one, other = (row_of(r, i, count, groups) for r in (reference, rows))
        scale = weight * float(row_of(plain, i, count).norm()) + shift
        assert float((one - other).norm()) <= 300 * unit * scale + 1e-30


@given(job=jobs())
def test_engines_agree(job: Job) -> None:
    law_engines_agree(job, "ghost")
