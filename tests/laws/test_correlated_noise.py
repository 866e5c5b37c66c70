"""Correlated noise: what is encoded, what it is scaled to, who takes part, and what is charged.

The reference is the definition: A, C and C⁻¹ as dense matrices, in NumPy, over few steps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from dpigu.accountants import get_accountant
from dpigu.accountants.events import Term, flatten
from dpigu.dpcore import (
    BoundPipeline,
    Clock,
    Driver,
    GrammarError,
    Kernel,
    Phase,
    PhaseContext,
    Pipeline,
    Plan,
    PoissonSampler,
    PrivacyError,
    Release,
    ReproducibleNoise,
    SelectiveUpdate,
    Space,
)
from dpigu.mechanisms import (
    BandedToeplitz,
    ClippedCount,
    Flat,
    Gaussian,
    LinearUnfreeze,
    LossChange,
    Quantile,
    RandomFreeze,
    Threshold,
    WeightMagnitude,
)
from dpigu.mechanisms.release.factorisations import mean_error, optimal_column
from dpigu.trainers import resume, train
from dpigu.trainers.runs import RunFolder
from dpigu.trainers.runs.explanation import explanation
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor

from tests.laws.noise.test_noise import StopAt
from tests.support.laws.data import linear, points, settings_of

SIZE, BATCH, SIGMA = 4, 4.0, 1.5
COLUMNS = st.lists(st.floats(-1, 1), min_size=0, max_size=3).map(lambda rest: (1.3, *rest))


def dense(column: tuple[float, ...], steps: int) -> NDArray[np.float64]:
    """C, whose entry (t, j) is c_{t−j}."""
    matrix = np.zeros((steps, steps))
    for t, j in itertools.product(range(steps), repeat=2):
        if 0 <= t - j < len(column):
            matrix[t, j] = column[t - j]
    return matrix


def pipeline_of(column: tuple[float, ...], **slots: Any) -> Pipeline:
    factorisation = BandedToeplitz(bands=len(column), column=column)
    noiser = Gaussian(noise_multiplier=SIGMA)
    return Pipeline(clipper=Flat(bound=1.0), noiser=noiser, factorisation=factorisation, **slots)


@contextmanager
def watched() -> Iterator[list[Any]]:
    """What every noised sum was before its noise, with its sensitivity, and what came out."""
    seen: list[Any] = []
    mint = Kernel._mint

    def watch(self: Kernel, guarded: Any, support_K: Tensor, ratio: float) -> Any:
        released = mint(self, guarded, support_K, ratio)
        seen.append((guarded.value.clone(), float(guarded.sensitivity), released))
        return released

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Kernel, "_mint", watch)
        yield seen


def run(pipeline: Pipeline, sums: list[Tensor], seed: int = 0) -> list[Release]:
    """A release of each batch of rows, by one kernel."""
    space = Space.flat("g", SIZE)
    bound = BoundPipeline(pipeline, space)
    states = bound.begin(PhaseContext(space, torch.arange(1.0, SIZE + 1), len(sums), 0))
    noise = ReproducibleNoise(seed)
    driver = Driver(bound, expected_batch=BATCH, relative_error=0.0, noise=noise)
    releases = []
    for t, g_BD in enumerate(sums):
        step = driver.open(states, Clock(t, len(sums)))
        release, states = step.release(step.dense(g_BD))
        releases.append(release)
    return releases


def batches(steps: int, seed: int = 1) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(3, SIZE, generator=draw) * 0.4 for _ in range(steps)]


def check_encoded_and_decoded(pipeline: Pipeline, matrix: np.ndarray, steps: int) -> None:
    """The kernel noises (C G)_t, and releases x with C x = y, whose variance it knows."""
    rows = batches(steps)
    with watched() as seen:
        releases = run(pipeline, rows)
    clipped = [g * (1 / g.norm(dim=1)).clamp(max=1)[:, None] for g in rows]
    sums_TD = torch.stack([g.double().sum(0) for g in clipped]).numpy()
    encoded_TD = torch.stack([value for value, _, _ in seen]).numpy()
    np.testing.assert_allclose(encoded_TD, matrix @ sums_TD, rtol=0, atol=1e-6)
    y_TD = torch.stack([released.value for _, _, released in seen]).numpy()
    x_TD = torch.stack([release.noised.value for release in releases]).numpy()
    want_TD = np.linalg.solve(matrix, y_TD)
    np.testing.assert_allclose(x_TD, want_TD, rtol=1e-9, atol=1e-9 * np.abs(want_TD).max())
    inverse = np.linalg.inv(matrix)
    for t, (release, (_, _, released)) in enumerate(zip(releases, seen, strict=True)):
        want = float(released.variance[0]) * float(inverse[t] @ inverse[t])
        assert release.noised.variance.tolist() == pytest.approx([want] * SIZE, rel=1e-9)


def law_encoded_and_decoded(column: tuple[float, ...], steps: int) -> None:
    """x_t = G_t + (C⁻¹ z)_t."""
    check_encoded_and_decoded(pipeline_of(column), dense(column, steps), steps)


@given(column=COLUMNS, steps=st.integers(1, 7))
def test_sums_are_encoded_and_what_was_released_is_decoded(column, steps):
    law_encoded_and_decoded(column, steps)


def law_sensitivity_of_the_encoder(column: tuple[float, ...], at: int) -> None:
    """A record that joins one step in b moves all encoded sums together by ‖c‖ C at most, and by
    nearly that; the noise of each has σ times it."""
    steps = at + len(column)
    without = batches(steps)
    row = torch.zeros(1, SIZE)
    row[0, 1] = 1.0
    with_ = [torch.cat([g, row]) if t == at else g for t, g in enumerate(without)]
    seen = []
    for rows in (without, with_):
        with watched() as these:
            run(pipeline_of(column), rows)
        seen.append(these)
    moved = math.sqrt(
        sum(float((a - b).norm()) ** 2 for (a, _, _), (b, _, _) in zip(*seen, strict=True))
    )
    for _, sensitivity, released in seen[0]:
        assert moved <= sensitivity <= math.hypot(*column) * (1 + 1e-5)
        std = float(released.variance[0].sqrt()) * BATCH
        assert std == pytest.approx(SIGMA * sensitivity, rel=1e-6) and std >= SIGMA * sensitivity


@given(column=COLUMNS, at=st.integers(0, 3))
def test_a_record_moves_all_encoded_sums_within_the_noise(column, at):
    law_sensitivity_of_the_encoder(column, at)


def law_records_take_turns(blocks: int, records: int) -> None:
    """At rate 1/b every record is in exactly one of b batches in a row; at any rate in at most."""
    always = PoissonSampler(1 / blocks, records, blocks)
    for start in range(2 * blocks):
        drawn = [always.draw(records, start + k).tolist() for k in range(blocks)]
        assert sorted(itertools.chain(*drawn)) == list(range(records))
    often = PoissonSampler(0.9 / blocks, records, blocks)
    drawn = [often.draw(records, t).tolist() for t in range(3 * blocks)]
    for t, batch in enumerate(drawn):
        near = list(itertools.chain(*drawn[t + 1 : t + blocks]))
        assert len(set(batch)) == len(batch) and not set(batch) & set(near)


@given(blocks=st.integers(1, 6), records=st.integers(1, 30))
def test_no_record_is_in_two_batches_of_fewer_than_b_steps_apart(blocks, records):
    law_records_take_turns(blocks, records)


@given(column=COLUMNS, steps=st.integers(1, 8))
def test_no_pattern_of_turns_moves_the_encoded_sums_more_than_is_charged(column, steps):
    """Over every pattern of steps at least b apart: ‖C u‖ ≤ √⌈n/b⌉ ‖c‖, and ⌈n/b⌉ Gaussians of
    multiplier σ are what b-banded factorisations are charged (Choquette-Choo et al. 2023)."""
    bands, matrix = len(column), dense(column, steps)
    turns = math.ceil(steps / bands)
    for pattern in itertools.product((0.0, 1.0, -1.0), repeat=steps):
        on = np.flatnonzero(pattern)
        if (np.diff(on) >= bands).all():
            length = float(np.linalg.norm(matrix @ np.array(pattern)))
            assert length <= math.sqrt(turns) * math.hypot(*column) * (1 + 1e-12)
    plan = Plan((Phase("main", pipeline_of(column), steps),))
    (term,) = flatten(plan.event(PoissonSampler(1 / bands, 10)))
    assert (term.count, term.noise_multiplier) == (turns, SIGMA)


def law_event_of_a_factorisation(bands: int, steps: int, rate: float) -> None:
    """n steps with b bands at rate q cost what ⌈n/b⌉ of DP-SGD cost at rate b·q: as
    jax_privacy's `amplified_bandmf_event` has it."""
    column = (1.0,) * bands
    plan = Plan((Phase("main", pipeline_of(column), steps),))
    one = PoissonSampledDpEvent(bands * rate, GaussianDpEvent(SIGMA))
    want = SelfComposedDpEvent(one, math.ceil(steps / bands))
    got = plan.event(PoissonSampler(rate, 1000))
    assert flatten(got) == flatten(want) == (Term(bands * rate, SIGMA, math.ceil(steps / bands)),)


@given(bands=st.integers(1, 9), steps=st.integers(1, 40), rate=st.sampled_from((0.01, 0.1)))
def test_a_period_is_charged_as_one_release_and_a_part_of_it_too(bands, steps, rate):
    law_event_of_a_factorisation(bands, steps, rate)


def test_one_band_is_independent_noise():
    """The same event, and the same release from the same bits, to the rounding of the grid."""
    rows = batches(4)
    plain = replace(pipeline_of((1.0,)), factorisation=None)
    for a, b in zip(run(plain, rows), run(pipeline_of((1.0,)), rows), strict=True):
        torch.testing.assert_close(a.noised.value, b.noised.value, rtol=1e-6, atol=1e-6)
    sampler = PoissonSampler(0.1, 100)
    events = [Plan((Phase("m", p, 9),)).event(sampler) for p in (plain, pipeline_of((1.0,)))]
    assert flatten(events[0]) == flatten(events[1])


def test_a_step_may_be_released_again_in_its_place():
    """What it left before is replaced: a neighbour's step does not follow the first one's."""
    pipeline, rows = pipeline_of((1.0, 0.5)), batches(3)
    space = Space.flat("g", SIZE)
    bound = BoundPipeline(pipeline, space)
    states = bound.begin(PhaseContext(space, torch.ones(SIZE), 3, 0))
    driver = Driver(bound, expected_batch=BATCH, relative_error=0.0)
    with watched() as seen:
        for t in (0, 1, 1, 2):
            step = driver.open(states, Clock(t, 3))
            step.release(step.dense(rows[t]))
    assert torch.equal(seen[1][0], seen[2][0])


def test_a_coordinate_that_joins_later_begins_its_own_factorisation():
    """Growing supports: where a coordinate joins at step s, x = C⁻¹ y from s on, and its variance
    counts from there."""
    column, steps = (1.0, 0.6, 0.3), 5
    pipeline = pipeline_of(column, scorer=WeightMagnitude(), scheduler=LinearUnfreeze(ratio=0.25))
    with watched() as seen:
        releases = run(pipeline, batches(steps))
    support_TD = torch.stack([r.support_D for r in releases])
    assert support_TD.sum(1).tolist() == [1, 1, 2, 3, 4]
    inverse = np.linalg.inv(dense(column, steps))
    for k in range(SIZE):
        first = int(support_TD[:, k].nonzero()[0])
        y = torch.stack([released.value[k] for _, _, released in seen[first:]]).numpy()
        x = torch.stack([r.noised.value[k] for r in releases[first:]]).numpy()
        here = inverse[: steps - first, : steps - first]
        np.testing.assert_allclose(x, here @ y, rtol=1e-9, atol=1e-9)
        for t, release in enumerate(releases[first:]):
            want = float(seen[first][2].variance[k]) * float(here[t] @ here[t])
            assert float(release.noised.variance[k]) == pytest.approx(want, rel=1e-9)
        assert all(float(r.noised.value[k]) == 0 for r in releases[:first])


# The column


def reference_error(column: tuple[float, ...], steps: int, momentum: float) -> float:
    """√(mean row energy of A C⁻¹) · the longest column of C, from dense matrices."""
    workload = np.array(
        [[sum(momentum**i for i in range(t - j + 1)) for j in range(steps)] for t in range(steps)]
    )
    matrix = dense(column, steps)
    noise = workload @ np.linalg.inv(matrix)
    return float(np.sqrt((noise**2).sum(1).mean()) * np.linalg.norm(matrix, axis=0).max())


@given(
    column=COLUMNS,
    more=st.integers(0, 12),
    momentum=st.sampled_from((0.0, 0.5, 0.9)),
)
def test_the_mean_error_is_that_of_the_definition(column, more, momentum):
    """Two kinds of arithmetic agree to 1e-6, relatively."""
    steps = len(column) + more
    want = reference_error(column, steps, momentum)
    assert mean_error(column, steps, momentum) == pytest.approx(want, rel=1e-6)


def test_independent_noise_has_the_error_of_a_random_walk():
    assert mean_error((1.0,), 9) == pytest.approx(math.sqrt((9 + 1) / 2), rel=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_two_bands_are_the_best_there_are(momentum):
    """Against a minimisation of the dense definition over the one free number."""
    found = mean_error(optimal_column(12, 2, momentum), 12, momentum)
    best = minimize_scalar(
        lambda c: reference_error((1.0, c), 12, momentum), bounds=(0, 1), method="bounded"
    )
    assert found == pytest.approx(best.fun, rel=1e-6)


@pytest.mark.parametrize("bands", [3, 6])
def test_no_small_change_of_the_best_column_is_better(bands):
    best = np.array(optimal_column(40, bands))
    least = mean_error(tuple(best), 40)
    for k, step in itertools.product(range(bands), (1e-3, -1e-3)):
        other = best.copy()
        other[k] += step
        assert mean_error(tuple(other), 40) >= least * (1 - 1e-9)


@given(steps=st.integers(1, 60), bands=st.integers(1, 8))
def test_a_column_has_length_one_and_more_bands_are_never_worse(steps, bands):
    column = optimal_column(steps, bands)
    assert len(column) == bands and math.hypot(*column) == pytest.approx(1.0, rel=1e-12)
    fewer = mean_error(optimal_column(steps, max(1, bands - 1)), steps)
    assert mean_error(column, steps) <= fewer * (1 + 1e-6)


# What is refused


def test_the_grammar_refuses_what_it_cannot_promise():
    with pytest.raises(GrammarError, match="the bound of this clipper moves"):
        replace(pipeline_of((1.0, 0.5)), clipper=Quantile(bound=1.0), queries=(ClippedCount(),))
    with pytest.raises(GrammarError, match="never loses a coordinate"):
        pipeline_of((1.0, 0.5), scheduler=RandomFreeze())
    looking = Pipeline(
        clipper=Flat(bound=1.0), noiser=Gaussian(noise_multiplier=SIGMA), statistic=LossChange()
    )
    with pytest.raises(GrammarError, match="leaves them nothing to cancel"):
        Phase(
            "main",
            pipeline_of((1.0, 0.5)),
            4,
            selective_update=SelectiveUpdate(looking, Threshold()),
        )
    plan = Plan((Phase("main", pipeline_of((1.0, 0.5, 0.1)), 4),))
    with pytest.raises(GrammarError, match="records cannot take turns so seldom"):
        plan.event(PoissonSampler(0.4, 100))
    with pytest.raises(GrammarError, match="b finite numbers, the first above 0"):
        BandedToeplitz(bands=2, column=(0.0, 1.0))


def test_a_clipper_whose_bound_moves_in_secret_stops_the_run():
    """A bound that the grammar could not see move: the kernel holds it against the first one."""

    class Moving(Flat):
        def joint_bound(self, state: Any) -> Tensor:
            BOUNDS.append(1.0 + 0.1 * len(BOUNDS))
            return torch.tensor(BOUNDS[-1], dtype=torch.float64)

    BOUNDS: list[float] = []
    with pytest.raises(PrivacyError, match="the clipping bound moved within a factorisation"):
        run(replace(pipeline_of((1.0, 0.5)), clipper=Moving(bound=1.0)), batches(3))


# Runs


def law_a_resume_begins_a_new_factorisation(out: Path) -> None:
    """Four steps of eight, then four more: with three bands ⌈4/3⌉ + ⌈4/3⌉ periods, and not
    ⌈8/3⌉; ε is that of four releases."""
    plan = Plan((Phase("main", pipeline_of((1.0, 0.5, 0.25)), 8),))
    data, common = points(), {"out": out, "progress": False}
    with pytest.raises(KeyboardInterrupt):
        train(plan, data, linear(), settings_of(), observer=StopAt(4), **common)
    before = RunFolder(out).ledger().charged
    assert before == (4,)
    done = resume(out, data=data, model=linear(), progress=False)
    (term,) = flatten(RunFolder(out).ledger().event)
    assert (term.rate, term.count) == (3 * 30.0 / 120, 4)
    spent = get_accountant("rdp").epsilon(RunFolder(out).ledger().event, settings_of().delta)
    assert done.summary["epsilon"] == spent.value
    assert RunFolder(out).ledger().charged == (11,)  # 6, 2 of them never ran, and 5
    assert (done.summary["steps"], done.summary["repeated_steps"]) == (9, 1)


def test_a_resume_begins_a_new_factorisation_and_pays_for_it(tmp_path: Path) -> None:
    law_a_resume_begins_a_new_factorisation(tmp_path / "run")


def test_a_run_pays_once_a_period_and_says_so(tmp_path: Path) -> None:
    plan = Plan((Phase("main", pipeline_of((1.0, 0.5, 0.25)), 7),))
    done = train(plan, points(), linear(), settings_of(), out=tmp_path / "run", progress=False)
    (term,) = flatten(RunFolder(tmp_path / "run").ledger().event)
    assert term.count == 3 and done.summary["steps"] == 7
    text = (tmp_path / "run/public/STATEMENT.txt").read_text()
    assert "in one step at most of so many in a row: 3 (main)" in text
    told = " ".join(explanation(done.summary)["How it was kept"])
    assert "at most of 3 in a row, with probability 75.00%" in told
