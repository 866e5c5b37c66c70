"""White-box canaries: rows as planned, observations as released, and what they contradict."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from dpigu.audits import (
    CanaryPlan,
    EvidenceError,
    StopWhenContradicted,
    Verdict,
    audit_model,
    load_plan,
    plan_canaries,
    watch_run,
)
from dpigu.audits.canaries import PLAN
from dpigu.audits.canaries.gradients import FAR, OBSERVATIONS, GradientCanaries
from dpigu.audits.canaries.observations import increment, read_observations
from dpigu.dpcore import (
    BoundPipeline,
    Clock,
    DataError,
    Kernel,
    PhaseContext,
    Release,
    Space,
    States,
    StepContext,
)
from dpigu.dpcore.noise import SystemNoise
from dpigu.dpcore.rows import DenseRows
from dpigu.mechanisms import PRESETS
from dpigu.trainers import Callback, Settings, train
from dpigu.trainers.lifecycle.prepare import prepare
from dpigu.trainers.runs import RunFolder
from dpigu.trainers.runs.report import configuration
from dpigu.trainers.tasks.losses import cross_entropy
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from torch import Tensor

from tests.audits.test_run_audit import DATA, module
from tests.support.run_folders import bare

M, STEPS = 100, 25


def settings(rate: float, sigma: float) -> Settings:
    return Settings(
        noise_multiplier=sigma,
        rate=rate,
        accountant="rdp",
        learning_rate=0.01,
        evaluations=1,
        device="cpu",
    )


class Weaker(SystemNoise):
    """Noise of a twentieth of what is claimed: a mistake that no stage can see."""

    def words(self, count: int) -> NDArray[np.uint64]:
        z = ndtri((super().words(count) + 0.5) * 2.0**-64)
        return (ndtr(z / 20) * 2.0**64).astype(np.uint64)


def trained(
    path: Path,
    rate: float = 1.0,
    noise: SystemNoise | None = None,
    sigma: float = 5.0,
    count: int = M,
    callbacks: Sequence[Callback] = (),
) -> Path:
    planned, plan = plan_canaries(DATA, count, "gradient"), PRESETS["dpsgd"].plan(STEPS)
    watch = GradientCanaries(planned, plan)

    def before(folder: RunFolder) -> None:
        planned.save(folder)
        watch.begin(folder)

    train(
        plan,
        planned.apply(DATA),
        module(),
        settings(rate, sigma),
        out=path,
        observer=watch,
        noise=noise,
        callbacks=callbacks,
        before_training=before,
        progress=False,
    )
    return path


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("honest") / "run")


def test_an_honest_run_is_not_contradicted_and_leaks_what_it_may(honest: Path) -> None:
    """μ = √25/5 = 1: nearly what the curve allows; a false alarm in 5% of runs at most.

    So the verdict is asked at twice the run's own ε, and the AUC for Φ(μ/√2) = 0.76: with 100
    canaries it lies above 0.5 in all but 1 of 10⁵ runs.
    """
    own = RunFolder(honest).summary()["epsilon"]
    audit = audit_model(honest, claim_epsilon=2 * own)
    assert audit.report.verdict is Verdict.NOT_CONTRADICTED
    assert audit.to_json()["estimates"]["auc"]["value"] > 0.5
    assert dict(audit.report.checks)["observations"] == f"{STEPS} steps of {STEPS} charged"


def test_an_honest_runs_numbers_are_those_it_claims(honest: Path) -> None:
    """2,500 observations: noise within 8% (3 deviations) of σ, reach within 0.6 of C."""
    audit = audit_model(honest)
    assert audit.as_claimed is not None and audit.as_claimed.epsilon is not None
    assert 1 <= audit.as_claimed.noise < 1.15 and 0.2 < audit.as_claimed.reach < 1.1
    assert not audit.report.powerless and "As numbers" in audit.report.sentence
    assert watch_run(honest).verdict is Verdict.NOT_CONTRADICTED


def test_a_watched_run_with_too_little_noise_stops_early(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", noise=Weaker(), callbacks=[StopWhenContradicted(every=5)])
    assert RunFolder(run).summary()["steps"] == 5
    found = watch_run(run)
    assert found.verdict is Verdict.CONTRADICTED and found.steps == 5


def test_a_run_without_its_plan_cannot_be_watched(honest: Path) -> None:
    plan = RunFolder(honest).private / PLAN
    whole = plan.read_bytes()
    plan.unlink()
    try:
        assert watch_run(honest).verdict is Verdict.INVALID_AUDIT
    finally:
        plan.write_bytes(whole)


def test_a_twentieth_of_the_noise_contradicts_the_runs_own_accounting(tmp_path: Path) -> None:
    """μ is above 3, with what the data add, under an accounting of μ = 1."""
    audit = audit_model(trained(tmp_path / "run", noise=Weaker(), count=250))
    assert audit.report.verdict is Verdict.CONTRADICTED, audit.report
    assert "own accounting" in audit.report.sentence


def test_sampled_batches_give_evidence_too(tmp_path: Path) -> None:
    """At q = 0.5, σ = 1 and 25 steps about 80 of 100 are told, and 67 are enough."""
    audit = audit_model(trained(tmp_path / "run", rate=0.5, sigma=1.0), claim_epsilon=0.1)
    assert audit.report.verdict is Verdict.CONTRADICTED


def opened(
    plan: CanaryPlan, folder: RunFolder, rate: float
) -> tuple[GradientCanaries, BoundPipeline]:
    """Canaries that have read a configuration, and a kernel's pipeline for their rows."""
    training = PRESETS["dpsgd"].plan(STEPS)
    prepared = prepare(training, DATA, module(), settings(rate, 1.0), cross_entropy, {})
    folder.write_configuration(configuration(prepared))
    watch = GradientCanaries(plan, training)
    watch.begin(folder)
    return watch, BoundPipeline(prepared.plan.phases[0].pipeline, prepared.space)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return bare(tmp_path / "bare")


def context_of(pipeline: BoundPipeline, step: int = 0) -> tuple[States, StepContext]:
    states = pipeline.begin(
        PhaseContext(pipeline.space, torch.zeros(pipeline.space.size), STEPS, 0)
    )
    return states, pipeline.open(states, Clock(step, STEPS))


def test_rows_are_orthogonal_at_the_bound_or_far_beyond_it(folder: RunFolder) -> None:
    plan = plan_canaries(DATA, M, "gradient")
    watch, pipeline = opened(plan, folder, 1.0)
    states, context = context_of(pipeline)
    rows = watch.extra_rows("main", context)
    assert rows is not None
    heads = [j for j, coin in enumerate(plan.coins) if coin]
    bound = float(pipeline.bound(states))
    gram = (rows.double() @ rows.double().T) / bound**2
    length = torch.tensor([1.0 if j % 2 == 0 else FAR for j in heads], dtype=torch.float64)
    torch.testing.assert_close(gram, torch.diag(length**2), rtol=1e-5, atol=1e-9)


def test_membership_follows_the_runs_rate_by_fresh_draws(folder: RunFolder) -> None:
    """300 steps at q = 0.2 of about 50 heads: 6 standard deviations, under 2e-9 by chance."""
    plan = plan_canaries(DATA, M, "gradient")
    watch, pipeline = opened(plan, folder, 0.2)
    _, context = context_of(pipeline)
    heads, joined, pattern = sum(plan.coins), 0, set()
    for _ in range(300):
        torch.manual_seed(0)
        np.random.seed(0)
        rows = watch.extra_rows("main", context)
        joined += 0 if rows is None else len(rows)
        pattern.add(0 if rows is None else tuple(rows.abs().sum(1).tolist()))
    n = 300 * heads
    assert abs(joined - 0.2 * n) < 6 * math.sqrt(n * 0.2 * 0.8)
    assert len(pattern) > 200


def release_of(rows: Tensor, pipeline: BoundPipeline) -> Release:
    states, context = context_of(pipeline)
    kernel = Kernel(pipeline, expected_batch=DATA.spec.records, relative_error=0.0)
    release, _ = kernel.release(states, context, [DenseRows(rows)])
    return release


def test_what_is_observed_is_one_for_those_in_and_nought_for_the_others(folder: RunFolder) -> None:
    """At q = 1, σ = 1 a step's ratio is o − ½: mean ½ or −½ with deviation 1, 200 steps of 100.

    Rows ten thousand times too long are seen as one all the same: the clipper has its say.
    Six standard deviations: under 1e-8 by chance.
    """
    plan = plan_canaries(DATA, M, "gradient")
    watch, pipeline = opened(plan, folder, 1.0)
    for _ in range(200):
        _, context = context_of(pipeline)
        rows = watch.extra_rows("main", context)
        assert rows is not None
        watch.see("main", release_of(rows, pipeline))
    seen = read_observations(M, folder.private, STEPS)
    scores = increment(seen.o_Tm, 1.0, 1.0).sum(0)
    assert len(seen.o_Tm) == 200
    coins, far = np.array(plan.coins), np.arange(M) % 2 == 1
    for kind in (coins * far == 1, coins * ~far == 1, coins == 0):
        mean = scores[kind].mean() / 200
        expected = 0.5 if coins[kind].all() else -0.5
        assert abs(mean - expected) < 6 / math.sqrt(200 * kind.sum())


def test_a_clip_that_is_missing_shows_at_once(folder: RunFolder) -> None:
    """The same rows, summed as they are: one step tells every second canary that is in."""
    plan = plan_canaries(DATA, M, "gradient")
    watch, pipeline = opened(plan, folder, 1.0)
    _, context = context_of(pipeline)
    rows = watch.extra_rows("main", context)
    assert rows is not None
    honest = release_of(rows, pipeline)
    unclipped = rows.double().sum(0) / DATA.spec.records
    wrong = honest.noised.derive(unclipped, honest.noised.variance)
    watch.see("main", dataclasses.replace(honest, noised=wrong))
    scores = increment(read_observations(M, folder.private, STEPS).o_Tm, 1.0, 1.0).sum(0)
    far_heads = (np.array(plan.coins) == 1) & (np.arange(M) % 2 == 1)
    assert scores[far_heads].min() > 1000 > scores[~far_heads].max()


@pytest.mark.parametrize("rate", [0.01, 0.3, 1.0])
def test_the_ratio_is_that_of_the_two_densities(rate: float) -> None:
    """log of (1 − q)·N(o; 0, σ²) + q·N(o; 1, σ²) over N(o; 0, σ²), in its stable form."""
    o, sigma = torch.linspace(-3, 4, 15, dtype=torch.float64), 0.7
    out = torch.exp(-(o**2) / (2 * sigma**2))
    inside = torch.exp(-((o - 1) ** 2) / (2 * sigma**2))
    expected = ((1 - rate) * out + rate * inside).log() - out.log()
    np.testing.assert_allclose(increment(o.numpy(), rate, sigma), expected.numpy(), atol=1e-12)
    assert np.isfinite(increment(np.array([1e6]), rate, sigma)).all()


def tear(path: Path) -> None:
    path.write_text(path.read_text()[:200] + "\n" + path.read_text())


def shorten(path: Path) -> None:
    path.write_text(
        '{"phase": "main", "step": 0, "sigma": 5.0, "rate": 1.0, "joined": [], "seen": [0.5]}\n'
    )


def lose(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_text("")


def poison(path: Path) -> None:
    first, rest = path.read_text().split("\n", 1)
    record = json.loads(first)
    record["seen"][0] = math.nan
    path.write_text(json.dumps(record) + "\n" + rest)


def scramble(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize("damage", [tear, shorten, lose, empty, poison, scramble])
def test_observations_that_are_no_evidence_give_no_verdict(
    honest: Path, damage: Callable[[Path], None]
) -> None:
    path = RunFolder(honest).private / OBSERVATIONS
    whole = path.read_text()
    damage(path)
    try:
        assert audit_model(honest, claim_epsilon=1.0).report.verdict is Verdict.INVALID_AUDIT
    finally:
        path.write_text(whole)


def test_a_ledger_of_other_steps_gives_no_verdict(honest: Path) -> None:
    path = RunFolder(honest).public / "ledger.jsonl"
    whole = path.read_text()
    path.write_text("".join(whole.splitlines(keepends=True)[:-2]))
    try:
        report = audit_model(honest).report
    finally:
        path.write_text(whole)
    assert report.verdict is Verdict.INVALID_AUDIT and "disagree" in report.sentence


def test_a_line_cut_short_by_a_crash_is_left_out(honest: Path) -> None:
    folder = RunFolder(honest)
    plan = load_plan(folder)
    path = folder.private / OBSERVATIONS
    whole = path.read_text()
    path.write_text(whole[:-50])
    try:
        assert len(read_observations(len(plan.coins), folder.private, STEPS).o_Tm) == STEPS - 1
        path.unlink()
        with pytest.raises(EvidenceError, match="missing"):
            read_observations(len(plan.coins), folder.private, STEPS)
    finally:
        path.write_text(whole)


def test_a_run_without_noise_or_with_too_few_coordinates_is_refused(folder: RunFolder) -> None:
    plan = plan_canaries(DATA, M, "gradient")
    with pytest.raises(DataError, match="bound and noise"):
        GradientCanaries(plan, PRESETS["non-private"].plan(3))
    with pytest.raises(DataError, match="records"):
        GradientCanaries(plan_canaries(DATA, M), PRESETS["dpsgd"].plan(3))
    watch, _ = opened(plan, folder, 1.0)
    pipeline = PRESETS["dpsgd"].plan(3).phases[0].pipeline
    narrow = BoundPipeline(pipeline, Space.of({"w": torch.zeros(M - 1)}))
    with pytest.raises(DataError, match="fewer coordinates"):
        watch.extra_rows("main", context_of(narrow)[1])
