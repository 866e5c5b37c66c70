"""Noise: its scale is multiplier × sensitivity, once a step; fresh, independent, normal.

The statistical laws draw from the system's entropy. Each rejects at a level of 10⁻⁶, so a
correct kernel fails one of them less than once in 100,000 runs of this file.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch
from dpigu.dpcore import BoundPipeline, Clock, Kernel, PhaseContext, Release, Space, SystemNoise
from dpigu.dpcore.grammar.stages import size_of
from dpigu.dpcore.rows import UNIT_ROUNDOFF
from dpigu.dpcore.sampling import max_batch
from dpigu.trainers import resume, train
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from tests.laws.noise.noise_words import Ones, with_ones
from tests.support.laws.data import linear, points, settings_of
from tests.support.laws.strategies import SPACE, Opened, batches, dpsgd, opened, steps
from tests.support.zoo.wild_stages import WildQuery

LEVEL = 1e-6
QUERY = WildQuery(bound=2.0, factor=1.0, noise_ratio=3.0)


def law_scale(here: Opened, g_BD: Tensor, size: int) -> None:
    """Noise of one deviation is σ · C · (1 + margin), the grid added; for queries times their
    ratio. Bit for bit, with the grid and the integers computed in fractions and mpmath."""
    pipeline, kernel = here.pipeline.stages, here.kernel(noise=Ones())
    release, _ = kernel.release(here.states, here.context, here.pieces(g_BD, size))
    most = max_batch(4.0)
    margin = 2 * most * (8 * UNIT_ROUNDOFF + most * UNIT_ROUNDOFF)
    sigma = pipeline.noiser.noise_multiplier
    asked = [(release.noised, float(here.pipeline.bound(here.states)), 1.0)]
    for placed in pipeline.of("query"):
        stage = placed.stage
        asked.append((release.queries[placed.name], stage.bound, stage.noise_ratio))
    for (answer, bound, ratio), made in zip(asked, kernel.bounded, strict=True):
        assert float(made.sensitivity) == bound * (1 + margin)
        live_K = answer.variance > 0
        law, sensitivity = pipeline.noiser.law, float(made.sensitivity)
        want_K, std = with_ones(law, made.value, sensitivity, sigma * ratio)
        assert torch.equal(answer.value[live_K], want_K[live_K] / 4.0)
        assert torch.equal(
            answer.variance[live_K], torch.full_like(want_K, (std / 4.0) ** 2)[live_K]
        )


def law_once_a_step(here: Opened, g_BD: Tensor, size: int) -> None:
    """One draw of K words for the gradient and one for each query, in any microbatches.

    A single word is none of them: it has further digits of a draw that lies at a boundary.
    """
    noise = Ones()
    here.kernel(noise=noise).release(here.states, here.context, here.pieces(g_BD, size))
    pipeline = here.pipeline.stages
    groups = here.pipeline.group_count
    sizes = [here.pipeline.output.size, *(size_of(p.stage, groups) for p in pipeline.of("query"))]
    if pipeline.noiser.law == "gaussian-float":
        sizes = [2] * len(sizes)  # a key
    assert [n for n in noise.sizes if n > 1] == [n for n in sizes if n > 1]


WITH_QUERIES = steps(queries=st.just(QUERY))


@given(here=WITH_QUERIES, g_BD=batches(), size=st.integers(1, 7))
def test_scale_is_multiplier_times_sensitivity(here: Opened, g_BD: Tensor, size: int) -> None:
    law_scale(here, g_BD, size)


@given(here=WITH_QUERIES, g_BD=batches(), size=st.integers(1, 7))
def test_noise_is_drawn_once_a_step(here: Opened, g_BD: Tensor, size: int) -> None:
    law_once_a_step(here, g_BD, size)


def released_noise(count: int, size: int, pieces: int = 3) -> NDArray[np.float64]:
    """The unit noise of `count` releases of the whole kernel, one row a release.

    The batch has one record of zeros in each microbatch; σ = 2, C = 1, divisor 4.
    """
    plan = dpsgd(noise_multiplier=2.0)
    space = Space.flat("all", size)
    pipeline = BoundPipeline(plan.phases[0].pipeline, space)
    states = pipeline.begin(PhaseContext(space, torch.zeros(size), 4, 0))
    here = Opened(pipeline, states, pipeline.open(states, Clock(0, 4)))
    kernel = Kernel(pipeline, expected_batch=4.0, relative_error=0.0)
    zeros = torch.zeros(pieces, size)
    found = []
    for _ in range(count):
        release, _ = kernel.release(states, here.context, here.pieces(zeros, 1))
        found.append((release.noised.value * 4.0 / 2.0).numpy())
    return np.stack(found)


def law_normal() -> None:
    """Kolmogorov-Smirnov, first, second and fourth moment, and largest of 200,000 draws."""
    unit = released_noise(20, 10_000).reshape(-1)
    n = len(unit)
    assert stats.kstest(unit, "norm").pvalue > LEVEL
    limit = stats.norm.isf(LEVEL / 2)
    assert abs(unit.mean()) * math.sqrt(n) < limit
    assert abs((unit**2).mean() - 1) * math.sqrt(n / 2) < limit
    assert abs((unit**4).mean() - 3) * math.sqrt(n / 96) < limit
    largest = np.abs(unit).max()
    assert stats.norm.isf((-math.log(LEVEL) / n) / 2) < largest < stats.norm.isf(LEVEL / (2 * n))


def law_independent() -> None:
    """No correlation between steps, between coordinates, or of one step with the next.

    For independent normal x and y of length n, r = ⟨x, y⟩/‖x‖‖y‖ makes r√((n−1)/(1−r²)) a
    Student t of n − 1 degrees; the largest of m is compared at level 10⁻⁶/m.
    """
    unit_TK = released_noise(400, 50)
    for rows in (unit_TK, unit_TK.T):
        n = rows.shape[1]
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        r = np.abs((unit @ unit.T)[np.triu_indices(len(rows), 1)]).max()
        pairs = len(rows) * (len(rows) - 1) / 2
        limit = stats.t.isf(LEVEL / (2 * pairs), n - 1)
        assert r * math.sqrt((n - 1) / max(1 - r**2, 1e-300)) < limit
    lagged = (unit_TK[:-1] * unit_TK[1:]).sum() / math.sqrt(unit_TK[1:].size)
    assert abs(lagged) < stats.norm.isf(LEVEL / 2)
    assert len(np.unique(unit_TK)) > unit_TK.size - 20  # on the grid 0.9 of them meet by chance


def law_seeds_do_not_touch_it(source: Any = SystemNoise) -> None:
    """No seed that a user can set makes two draws equal, and drawing moves no generator."""
    drawn = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        before = torch.get_rng_state()
        drawn.append(source().words(8))
        assert torch.equal(torch.get_rng_state(), before)
    assert not (drawn[0] == drawn[1]).any()


def test_noise_is_normal() -> None:
    law_normal()


def test_noise_is_independent() -> None:
    law_independent()


def test_seeds_do_not_touch_the_noise() -> None:
    state = torch.get_rng_state()
    law_seeds_do_not_touch_it()
    torch.set_rng_state(state)


class StopAt:
    """An observer that interrupts a run after some releases."""

    def __init__(self, releases: int) -> None:
        self.left = releases

    def extra_rows(self, phase: str, context: object) -> Tensor | None:
        return None

    def see(self, phase: str, release: Release) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def law_never_replayed(out: Path) -> None:
    """Across the steps of a run, its resumed rest and a second resume, no draw is repeated."""
    plan, data, settings = dpsgd(), points(), replace(settings_of(), evaluations=4)
    drawn: list[NDArray[np.uint64]] = []
    words = SystemNoise.words

    def watched(self: SystemNoise, count: int) -> NDArray[np.uint64]:
        given = words(self, count)
        drawn.extend([given] if count > 1 else [])
        return given

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SystemNoise, "words", watched)
        with pytest.raises(KeyboardInterrupt):
            train(plan, data, linear(), settings, out=out, observer=StopAt(3), progress=False)
        copytree(out, out.with_name("twin"))
        for folder in (out, out.with_name("twin")):
            resume(folder, data=data, model=linear(), progress=False)
    numbers = np.concatenate(drawn)
    assert len(drawn) == 3 + 2 * 2  # the twin repeats the steps that the first resume took
    assert len(np.unique(numbers)) == len(numbers)


def test_noise_is_never_replayed(tmp_path: Path) -> None:
    law_never_replayed(tmp_path / "run")


def test_the_size_of_the_space_is_the_size_of_the_noise() -> None:
    assert released_noise(1, SPACE.size).shape == (1, SPACE.size)
    assert opened(dpsgd()).pipeline.output == SPACE
