"""Campaigns: what their scores decide, how they go on, and what a trial trains."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from dpigu.audits.campaign import crafted_target, run_campaign, work
from dpigu.audits.campaign.judged import Campaign, Thresholds, judged, looks_of
from dpigu.audits.campaign.run import without_one
from dpigu.audits.campaign.work import Job, open_job
from dpigu.audits.statistics import OWN, gaussian_tradeoff, mu_to_epsilon
from dpigu.trainers.data.sources import Tensors

from dpigu import (
    Data,
    DataError,
    DataSpec,
    EvidenceError,
    Recipe,
    Scaling,
    Verdict,
    calibrate,
    recipe_for,
)

MU = 1.0
EPSILON = mu_to_epsilon(MU, 1e-5)
SPEC = DataSpec("made", 12, 3, (4,), Scaling(2, 0.5, 0.5))


def data() -> Data:
    """Twelve records that never light their third coordinate."""
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(20, 4, generator=draw) * 2 - 1
    x[:, 2] = -1.0
    y = torch.arange(20) % 3
    return Data(SPEC, Tensors(x[:12], y[:12]), Tensors(x[12:], y[12:]))


def recipe(clip: float = 1.0) -> Recipe:
    return recipe_for(
        "dpsgd",
        "made",
        records=12,
        classes=3,
        steps=2,
        rate=1.0,
        noise_multiplier=2.0,
        clip=clip,
        model="linear",
        momentum=0.0,
        accountant="rdp",
    )


def decided(mu: float, seed: int, trials: int = 300) -> Campaign:
    """Trials of a mechanism that is exactly μ-GDP, against the curve of μ = 1."""
    draw = np.random.default_rng(seed)
    coins = draw.integers(0, 2, trials)
    scores = mu * coins + draw.normal(size=trials)
    return judged(
        scores, coins, epsilon=EPSILON, delta=1e-5, confidence=0.95, own=gaussian_tradeoff(MU)
    )


def test_an_honest_campaign_is_bounded_below_what_it_has() -> None:
    found = [decided(MU, seed) for seed in range(8)]
    assert sum(c.report.verdict is Verdict.CONTRADICTED for c in found) <= 2
    assert max(c.mu for c in found) <= MU * 1.1 and np.median([c.mu for c in found]) > 0.5 * MU
    assert all(c.report.lower_bound < EPSILON for c in found)


def test_twice_the_distance_contradicts_the_accounting_and_more_the_claim() -> None:
    twice, far = decided(2.0, 1), decided(20.0, 1, trials=800)
    assert twice.report.verdict is Verdict.CONTRADICTED and OWN in twice.report.sentence
    assert far.report.verdict is Verdict.CONTRADICTED and OWN not in far.report.sentence
    assert far.report.lower_bound > EPSILON


def test_a_rule_looks_at_earlier_trials_alone() -> None:
    """A trial's own score and coin, and later ones, move nothing that it was guessed by."""
    draw = np.random.default_rng(3)
    coins, scores = draw.integers(0, 2, 30), draw.normal(size=30)
    before = looks_of(scores, coins)
    scores[20:] += 100
    assert looks_of(scores, coins)[:20] == before[:20]
    assert Thresholds.after(scores[:3], np.array([1, 1, 0])) is None


def test_guesses_of_no_signal_show_nothing() -> None:
    found = decided(0.0, 5)
    assert not found.report.powerless and "whatever the mechanism" in found.report.sentence
    assert found.report.lower_bound == 0.0 and found.mu < 0.4


def test_the_crafted_record_stands_where_no_other_does() -> None:
    made, model = data(), torch.nn.Linear(4, 3)
    target = crafted_target(made, model)
    assert target.x.tolist() == [0.0, 0.0, 1.0, 0.0]
    before = model(made.test_x).argmax(1) == made.test_y
    after = target.model(made.test_x).argmax(1) == made.test_y
    assert after.sum() >= before.sum() and target.model is not model
    plain = crafted_target(made, model, worst_case=False)
    assert torch.equal(plain.model.weight, model.weight)
    assert plain.label == int(model(plain.x).argmin())


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Trials run here and train nothing: a score that tells the coin. Gives those that ran."""
    done: list[int] = []

    def here(
        work: Callable[[int], float], tasks: Sequence[int], workers: int, log: Path
    ) -> Iterator[tuple[int, float]]:
        for task in tasks:
            done.append(task)
            yield task, work(task)

    monkeypatch.setattr("dpigu.audits.campaign.run.spread", here)
    monkeypatch.setattr(Job, "trained_score", lambda job, inside: 5.0 * inside + len(done) % 7)
    return done


def started(folder: Path, trials: int = 40, clip: float = 1.0, **options: bool) -> Campaign:
    made = data()
    target = crafted_target(made, torch.nn.Linear(4, 3), worst_case=False)
    return run_campaign(recipe(clip), made, target, folder, trials=trials, **options)


def test_more_trials_go_on_and_keep_their_coins(tmp_path: Path, untrained: list[int]) -> None:
    torch.manual_seed(1)
    first = started(tmp_path / "a")
    torch.manual_seed(1)
    more = started(tmp_path / "a", 60)
    assert untrained == list(range(60)) and more.look.trials == 60
    assert np.array_equal(more.coins[:40], first.coins)
    assert np.array_equal(more.scores[:40], first.scores)
    json.dumps(more.to_json(), allow_nan=False)


def test_it_stops_where_it_contradicts(tmp_path: Path, untrained: list[int]) -> None:
    found = started(tmp_path / "a", 400, until_contradicted=True)
    assert found.report.verdict is Verdict.CONTRADICTED and len(untrained) < 400


def test_trials_that_are_done_before_the_first_are_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def backwards(
        work: Callable[[int], float], tasks: Sequence[int], workers: int, log: Path
    ) -> Iterator[tuple[int, float]]:
        for task in reversed(tasks):
            yield task, work(task)

    monkeypatch.setattr("dpigu.audits.campaign.run.spread", backwards)
    monkeypatch.setattr(Job, "trained_score", lambda job, inside: 5.0 * inside)
    assert started(tmp_path / "a", until_contradicted=True).look.trials == 40


def test_what_is_of_another_campaign_is_refused(tmp_path: Path, untrained: list[int]) -> None:
    torch.manual_seed(1)
    started(tmp_path / "a")
    torch.manual_seed(1)
    with pytest.raises(EvidenceError, match="another recipe"):
        started(tmp_path / "a", clip=2.0)
    score = tmp_path / "a" / "trial-00003.json"
    score.write_text((tmp_path / "a" / "trial-00004.json").read_text())
    torch.manual_seed(1)
    with pytest.raises(EvidenceError, match="another recipe, other data or another coin"):
        started(tmp_path / "a")
    with pytest.raises(DataError, match="too few trials"):
        started(tmp_path / "b", 5)


def test_a_trial_trains_the_record_or_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, trained = data(), []
    target = crafted_target(made, torch.nn.Linear(4, 3), worst_case=False)
    plan = calibrate(recipe().plan, recipe().settings, 12)
    real = work.train

    def watched(plan: object, data: Data, *rest: object, **options: object) -> object:
        trained.append(data.train_x)
        return real(plan, data, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(work, "train", watched)
    job = open_job(tmp_path, 4, plan, recipe().settings, without_one(made), target)
    scores = [job.trained_score(inside) for inside in (False, True)]
    assert np.isfinite(scores).all() and scores[0] != scores[1]
    assert [len(x) for x in trained] == [11, 12]
    assert torch.equal(trained[1][-1], target.x)
    assert dataclasses.asdict(job.settings)["noise_multiplier"] == 1.0
