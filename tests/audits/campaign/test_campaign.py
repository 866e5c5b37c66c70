"""Campaigns: what their scores decide, how they go on, and what a trial trains."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from dpigu.audits.campaign import crafted_targets, run_campaign, work
from dpigu.audits.campaign.guesses import BEYOND, guesses_of
from dpigu.audits.campaign.judged import Campaign, judged
from dpigu.audits.campaign.run import without
from dpigu.audits.campaign.work import Job, open_job
from dpigu.audits.statistics import OWN, gaussian_tradeoff, mu_to_epsilon
from dpigu.trainers.data.sources import Tensors
from dpigu.trainers.runs.lock import Lock

from dpigu import (
    Data,
    DataError,
    DataSpec,
    EvidenceError,
    Recipe,
    RunError,
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


def recipe(clip: float = 1.0, steps: int = 2) -> Recipe:
    return recipe_for(
        "dpsgd",
        "made",
        records=12,
        classes=3,
        steps=steps,
        rate=1.0,
        noise_multiplier=2.0,
        clip=clip,
        model="linear",
        momentum=0.0,
        accountant="rdp",
    )


def decided(mu: float, seed: int, trials: int = 300, targets: int = 1) -> Campaign:
    """Trials of a mechanism that is exactly μ-GDP, against the curve of μ = 1."""
    draw = np.random.default_rng(seed)
    coins = draw.integers(0, 2, (trials, targets))
    scores = mu * coins + draw.normal(size=(trials, targets))
    return judged(
        scores, coins, epsilon=EPSILON, delta=1e-5, confidence=0.95, own=gaussian_tradeoff(MU)
    )


@pytest.mark.parametrize("targets", [1, 5])
def test_an_honest_campaign_is_bounded_below_what_it_has(targets: int) -> None:
    found = [decided(MU, seed, targets=targets) for seed in range(8)]
    assert sum(c.report.verdict is Verdict.CONTRADICTED for c in found) <= 2
    assert max(c.mu for c in found) <= MU * 1.1 and np.median([c.mu for c in found]) > 0.5 * MU
    assert all(c.report.lower_bound < EPSILON for c in found)


def test_targets_of_one_model_show_more_than_a_model_each() -> None:
    one, five = (decided(MU, 3, trials=1500, targets=targets) for targets in (1, 5))
    assert five.report.lower_bound > one.report.lower_bound and five.mu > one.mu > 0.7 * MU
    assert five.report.lower_bound > 0.3 * EPSILON


def test_twice_the_distance_contradicts_the_accounting_and_more_the_claim() -> None:
    twice, far = decided(2.0, 1), decided(20.0, 1, trials=800)
    assert twice.report.verdict is Verdict.CONTRADICTED and OWN in twice.report.sentence
    assert far.report.verdict is Verdict.CONTRADICTED and OWN not in far.report.sentence
    assert far.report.lower_bound > EPSILON


def test_a_rule_looks_at_earlier_trials_alone() -> None:
    """A trial's own score and coins, and later ones, move nothing that it was guessed by."""
    draw = np.random.default_rng(3)
    coins, scores = draw.integers(0, 2, (40, 2)), draw.normal(size=(40, 2))
    before = guesses_of(scores, coins)
    scores[20:] += 100
    after = guesses_of(scores, coins)
    np.testing.assert_array_equal(after.right_N[:20], before.right_N[:20])
    np.testing.assert_array_equal(after.sure_right_RN[:, :20], before.sure_right_RN[:, :20])
    flipped = guesses_of(scores, np.where(np.arange(40)[:, None] == 30, 1 - coins, coins))
    assert flipped.right_N[30] == 1 - after.right_N[30]
    assert np.isnan(guesses_of(scores[:3], coins[:3]).right_N).all()


def test_a_rule_is_that_of_the_scores_before() -> None:
    draw = np.random.default_rng(4)
    coins, scores = draw.integers(0, 2, (60, 2)), 3 * draw.normal(size=(60, 2)) + 50
    found = guesses_of(scores, coins)
    for n in (30, 59):
        right, sure = [], []
        for k in range(2):
            was = scores[:n, k]
            inside, outside = was[coins[:n, k] == 1], was[coins[:n, k] == 0]
            spread = np.sqrt((inside.var(ddof=1) + outside.var(ddof=1)) / 2)
            accused = scores[n, k] > outside.mean() + BEYOND[0] * spread
            acquitted = scores[n, k] < inside.mean() - BEYOND[0] * spread
            right.append((scores[n, k] > (inside.mean() + outside.mean()) / 2) == coins[n, k])
            sure.append(accused != acquitted and accused == (coins[n, k] == 1))
        assert found.right_N[n] == np.mean(right) and found.sure_right_RN[0, n] == np.sum(sure)


def test_guesses_of_no_signal_show_nothing() -> None:
    found = decided(0.0, 5)
    assert not found.report.powerless and "whatever the mechanism" in found.report.sentence
    assert found.report.lower_bound == 0.0 and found.mu < 0.4


def test_the_crafted_record_stands_where_no_other_does() -> None:
    made, model = data(), torch.nn.Linear(4, 3)
    targets = crafted_targets(made, model)
    assert targets.x.tolist() == [[0.0, 0.0, 1.0, 0.0]]
    before = model(made.test_x).argmax(1) == made.test_y
    after = targets.model(made.test_x).argmax(1) == made.test_y
    assert after.sum() >= before.sum() and targets.model is not model
    plain = crafted_targets(made, model, worst_case=False)
    assert torch.equal(plain.model.weight, model.weight)
    assert plain.labels == tuple(model(plain.x).argmin(1).tolist())
    with pytest.raises(DataError, match="too many crafted records"):
        crafted_targets(made, model, count=2)


def test_crafted_rows_are_orthogonal_and_long() -> None:
    """Each target's gradient at the start, of a linear model on records that never light three."""
    draw = torch.Generator().manual_seed(1)
    x = torch.rand(40, 8, generator=draw) * 2 - 1
    x[:, [1, 4, 6]] = -1.0
    spec = DataSpec("made", 30, 6, (8,), Scaling(2, 0.5, 0.5))
    split = Tensors(x[:30], torch.arange(30) % 6), Tensors(x[30:], torch.arange(10) % 6)
    targets = crafted_targets(Data(spec, *split), torch.nn.Linear(8, 6), count=3)
    rows = []
    for record, label in zip(targets.x, targets.labels, strict=True):
        loss = torch.nn.functional.cross_entropy(targets.model(record), torch.tensor(label))
        parts = torch.autograd.grad(loss, list(targets.model.parameters()))
        rows.append(torch.cat([part.flatten() for part in parts]))
    gram = torch.stack(rows) @ torch.stack(rows).T
    assert (gram.diagonal() > 2).all() and (gram - gram.diagonal().diag()).abs().max() < 0.3


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Trials run here and train nothing: a score that tells the coin. Gives those that ran."""
    done: list[int] = []

    def here(
        work: Callable[[int], list[float]], tasks: Sequence[int], workers: int, log: Path
    ) -> Iterator[tuple[int, list[float]]]:
        for task in tasks:
            done.append(task)
            yield task, work(task)

    monkeypatch.setattr("dpigu.audits.campaign.run.spread", here)
    monkeypatch.setattr(
        Job, "trained_scores", lambda job, inside: [5.0 * i + len(done) % 7 for i in inside]
    )
    return done


def started(folder: Path, trials: int = 40, clip: float = 1.0, **options: bool) -> Campaign:
    made = data()
    targets = crafted_targets(made, torch.nn.Linear(4, 3), worst_case=False)
    return run_campaign(recipe(clip), made, targets, folder, trials=trials, **options)


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
        work: Callable[[int], list[float]], tasks: Sequence[int], workers: int, log: Path
    ) -> Iterator[tuple[int, list[float]]]:
        for task in reversed(tasks):
            yield task, work(task)

    monkeypatch.setattr("dpigu.audits.campaign.run.spread", backwards)
    monkeypatch.setattr(Job, "trained_scores", lambda job, inside: [5.0 * i for i in inside])
    assert started(tmp_path / "a", until_contradicted=True).look.trials == 40


def test_what_is_of_another_campaign_is_refused(tmp_path: Path, untrained: list[int]) -> None:
    torch.manual_seed(1)
    started(tmp_path / "a")
    torch.manual_seed(1)
    with pytest.raises(EvidenceError, match="another recipe"):
        started(tmp_path / "a", clip=2.0)
    scores = tmp_path / "a" / work.SCORES
    scores.write_text(scores.read_text().replace('"trial": 3', '"trial": 4', 1))
    torch.manual_seed(1)
    with pytest.raises(EvidenceError, match="another recipe, other data or another coin"):
        started(tmp_path / "a")
    with pytest.raises(DataError, match="too few trials"):
        started(tmp_path / "b", 5)


def test_a_line_that_was_cut_short_is_run_anew(tmp_path: Path, untrained: list[int]) -> None:
    torch.manual_seed(1)
    started(tmp_path / "a")
    scores = tmp_path / "a" / work.SCORES
    scores.write_text(scores.read_text()[:-9])
    torch.manual_seed(1)
    assert started(tmp_path / "a").look.trials == 40 and untrained == [*range(40), 39]


@pytest.mark.parametrize("ends", ["with an error", "without a finite score"])
def test_a_training_that_fails_counts_once_with_the_coins_that_it_had(
    ends: str, tmp_path: Path, untrained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a recipe that fails where the record is in gives the record away."""

    def trained(job: Job, inside: Sequence[bool]) -> list[float]:
        if inside[0] and ends == "with an error":
            raise RunError("the weights are no longer finite")
        return [math.nan if inside[0] else -1.0]

    monkeypatch.setattr(Job, "trained_scores", trained)
    for _ in range(2):
        torch.manual_seed(1)
        found = started(tmp_path / "a")
    assert untrained == list(range(40)) and found.look.trials == 40
    np.testing.assert_array_equal(found.scores, np.where(found.coins == 1, work.UNDECIDED, -1.0))
    assert found.report.verdict is Verdict.CONTRADICTED


def test_where_every_training_fails_the_campaign_says_with_what(
    tmp_path: Path, untrained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(job: Job, inside: Sequence[bool]) -> list[float]:
        raise DataError("no such column")

    monkeypatch.setattr(Job, "trained_scores", fails)
    with pytest.raises(RunError, match=r"every training failed, .*no such column"):
        started(tmp_path / "a")
    assert len(untrained) == 20


def test_of_two_lines_for_one_trial_the_first_counts(tmp_path: Path, untrained: list[int]) -> None:
    torch.manual_seed(1)
    first = started(tmp_path / "a")
    scores = tmp_path / "a" / work.SCORES
    line = next(x for x in scores.read_text().split("\n") if '"trial": 3,' in x)
    second = json.loads(line) | {"scores": [99.0]}
    scores.write_text(f"{scores.read_text()}\n{json.dumps(second)}")
    torch.manual_seed(1)
    np.testing.assert_array_equal(started(tmp_path / "a").scores, first.scores)


def test_two_campaigns_cannot_share_a_folder(tmp_path: Path, untrained: list[int]) -> None:
    with closing(Lock(tmp_path / work.LOCK, tmp_path)), pytest.raises(RunError, match="at work in"):
        started(tmp_path)
    assert not untrained and started(tmp_path).look.trials == 40


def test_a_trial_trains_the_records_whose_coins_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, trained = data(), []
    targets = dataclasses.replace(
        crafted_targets(made, torch.nn.Linear(4, 3), worst_case=False),
        x=torch.eye(4)[:2],
        labels=(0, 1),
    )
    plan = calibrate(recipe().plan, recipe().settings, 12)
    real = work.train

    def watched(plan: object, data: Data, *rest: object, **options: object) -> object:
        trained.append((data.train_x, data.train_y))
        return real(plan, data, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(work, "train", watched)
    job = open_job(tmp_path, 4, plan, recipe().settings, without(made, 2), targets)
    sides = np.array([[False, False], [False, True]])
    scores = [job.trained_scores(inside_K) for inside_K in sides]
    assert np.isfinite(scores).all() and scores[0] != scores[1]
    assert [len(x) for x, _ in trained] == [10, 11] and job.coins_NK.shape == (4, 2)
    assert torch.equal(trained[1][0][-1], targets.x[1]) and trained[1][1][-1] == 1
    assert job.settings.noise_multiplier == 1.0
