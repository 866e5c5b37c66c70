"""The audit of a mechanism: its kernel run many times on neighbouring batches, without training.

Explore, then confirm. A few runs of every situation suggest a distinguisher, a threshold and a
test; runs made afterwards, which suggested nothing, decide.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from dpigu.audits.mechanism.adversary import SITUATIONS, Situation
from dpigu.audits.mechanism.distinguishers import (
    Rule,
    Separation,
    Traces,
    expected_distance,
    likelihood_separation,
    rule,
    search,
)
from dpigu.audits.mechanism.noise import WIDE, audit_noise
from dpigu.audits.mechanism.report import SHARES, MechanismAudit, MechanismTest, judged
from dpigu.audits.mechanism.sampling import audit_sampler, records_for
from dpigu.audits.mechanism.short_runs import short_runs
from dpigu.audits.mechanism.traces import SPACE, ShortRun
from dpigu.audits.statistics import (
    ErrorCounts,
    check_claim,
    check_confidence,
    runs_for_ceiling,
    runs_needed,
)
from dpigu.dpcore import (
    Kernel,
    MakeReleaser,
    NoiseSource,
    Plan,
    PoissonSampler,
    PrivacyError,
    Space,
)
from dpigu.mechanisms.public_random import public_generator

RATE, DECLARED = 0.1, 320
"""The sampler that is audited unless another is given."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How many runs a side to explore each situation, to train a rule, and to decide; how many
    batches the sampler draws, and how many steps of a phase are walked through for its noise.

    As many decide as `reach` of μ needs, but from `fewest` to `usual`; and up to `most`, where no
    fewer could contradict. Where not even those could, `fewest` are enough to say so.
    """

    explore: int
    train: int
    fewest: int
    usual: int
    most: int
    draws: int
    walk: int
    reach: float = 0.88

    def runs(self, mu: float, level: float) -> int:
        """Runs a side that decide about μ at this level."""
        if runs_for_ceiling(mu, level) > self.most:
            return self.fewest
        wanted = min(max(runs_needed(mu, level, self.reach), self.fewest), self.usual)
        return max(wanted, min(runs_for_ceiling(MARGIN * mu, level), self.most))


MARGIN = 1.1
"""How far above μ perfect guesses must be able to reach."""
FULL = Effort(explore=15, train=100, fewest=500, usual=5000, most=10_000, draws=1000, walk=100)
QUICK = Effort(explore=5, train=30, fewest=100, usual=100, most=2000, draws=400, walk=20)


def audit_mechanism(
    plan: Plan,
    *,
    sampler: PoissonSampler | None = None,
    delta: float = 1e-5,
    confidence: float = 0.95,
    quick: bool = False,
    space: Space = SPACE,
    kernel: MakeReleaser = Kernel,
    noise: NoiseSource | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> MechanismAudit:
    """Whether what a plan releases tells neighbours apart better than its event allows.

    Nothing is trained. For every situation of `adversary`, the plan's own kernel runs a
    few steps with and without one record at rate 1, where the event of the steps is μ-GDP. A
    part of the runs chooses what to look at; the rest is counted, and the errors are tested
    against the curve G_μ (`error_counts`). The sampler's draws are tested by themselves, and so
    is the noise, over the whole of every phase and on thousands of coordinates (`noise`).

    Args:
        plan: private; its noise multipliers are taken as they are.
        sampler: whose draws are tested, in the turns of the phase that has most; rate 0.1 of 320
            records by default.
        delta: for the ε that is shown beside μ.
        confidence: of the verdict, divided among its tests by `SHARES`.
        quick: in some seconds: what the noise lacks is seen, and gross mistakes.
        space: where rows live, if the stages need another than three layers (24 coordinates; 5,402
            for the noise by itself).
        kernel: what releases a step, if not `dpcore.Kernel`.
        noise: where the noise's bits come from; the system's unless a test needs them repeatable.
        progress: called with the share that is done.

    Returns: INVALID AUDIT where not even perfect guesses could contradict the event.
    Raises: DpiguError for a plan that claims nothing, or that cannot run in this space.
    """
    check_claim(0.0, delta)
    check_confidence(confidence)
    if not plan.private:
        raise PrivacyError(
            "this plan draws no noise and claims nothing: there is nothing to contradict",
            where="audit_mechanism",
            remedy="Audit a private plan.",
        )
    sampler = sampler if sampler is not None else PoissonSampler(RATE, DECLARED)
    effort = QUICK if quick else FULL
    tried = short_runs(plan, space, kernel, noise)
    for short_run in tried:
        short_run.check()
    candidates = list(_explored(tried, effort, progress))
    tests = tuple(_decided(candidates, effort, 1 - confidence, delta, progress))
    turns = in_turns(plan, sampler)
    few = records_for(turns.block_rate, turns.records, effort.draws)
    small = dataclasses.replace(turns, records=few)
    draws = audit_sampler(small, draws=effort.draws, draw=turns.draw)
    wide = WIDE if space == SPACE else space
    heard = audit_noise(plan, steps=effort.walk, space=wide, kernel=kernel, noise=noise)
    p_values = [test.p_value / SHARES[test.name] for test in tests]
    p_values += [draws.p_value / SHARES["sampler"], heard.p_value / SHARES["noise"]]
    p_value = min(1.0, *p_values)
    verdict, sentence = judged(tests, draws, heard, p_value, confidence)
    return MechanismAudit(
        verdict=verdict,
        sentence=sentence,
        event=str(plan.event(sampler)),
        noise_multipliers=tuple(p.pipeline.noiser.noise_multiplier for p in plan.phases),
        delta=delta,
        confidence=confidence,
        p_value=p_value,
        tests=tests,
        sampler=draws,
        noise=heard,
        explored=2 * effort.explore * len(tried) * len(SITUATIONS),
        quick=quick,
    )


def in_turns(plan: Plan, sampler: PoissonSampler) -> PoissonSampler:
    """How the phase samples whose records take turns in most blocks; mostly there is one block."""
    return max((phase.sampler(sampler) for phase in plan.phases), key=lambda s: s.blocks)


@dataclass(frozen=True)
class _Candidate:
    """What a few runs of one situation suggest for one test.

    `promise` is the distance that is expected, in units of the event's μ.
    """

    test: str
    short_run: ShortRun
    situation: Situation
    found: Separation
    promise: float


def _explored(
    tried: tuple[ShortRun, ...], effort: Effort, progress: Callable[[float], None]
) -> Iterator[_Candidate]:
    """For every short run, situation and test, what separates a few runs most."""
    places = [(short_run, situation) for short_run in tried for situation in SITUATIONS]
    for i, (short_run, situation) in enumerate(places):
        without, with_ = _runs(short_run, situation, effort.explore)
        ratio = likelihood_separation(without, with_)
        known = short_run.distance * expected_distance(with_)
        promise = max(ratio.sure, known) / short_run.mu
        yield _Candidate("likelihood ratio", short_run, situation, ratio, promise)
        for part in ("released vectors", "states"):
            found = search(without, with_, part)
            yield _Candidate(part, short_run, situation, found, found.sure / short_run.mu)
        progress(0.4 * (i + 1) / len(places))


def _decided(
    candidates: list[_Candidate],
    effort: Effort,
    error: float,
    delta: float,
    progress: Callable[[float], None],
) -> Iterator[MechanismTest]:
    """The likelihood ratio where it promises most, and of what was searched for, whatever
    surely separates more than the event allows."""
    chosen: list[_Candidate] = []
    for test in ("likelihood ratio", "released vectors", "states"):
        best = max(
            (c for c in candidates if c.test == test),
            key=lambda c: (round(c.promise, 2), c.found.distance / c.short_run.mu),
        )
        if not chosen or best.promise > 1:
            chosen.append(best)
    for i, candidate in enumerate(chosen):
        part = partial(_part, progress, 0.4 + 0.6 * i / len(chosen), 0.6 / len(chosen))
        yield _confirmed(candidate, effort, error, delta, part)


def _part(progress: Callable[[float], None], start: float, size: float, done: float) -> None:
    """Tell the share of the whole, from the share of a part."""
    progress(start + size * done)


def _confirmed(
    candidate: _Candidate,
    effort: Effort,
    error: float,
    delta: float,
    progress: Callable[[float], None],
) -> MechanismTest:
    """A rule from training runs, and its errors on runs made after it was fixed."""
    short_run, situation, name = candidate.short_run, candidate.situation, candidate.test
    level = error * SHARES[name]
    fixed = rule(
        candidate.found.distinguisher, *_runs(short_run, situation, effort.train), level=level
    )
    runs = effort.runs(short_run.mu, level)
    errors = _errors(fixed, short_run, situation, runs, progress)
    perfect = ErrorCounts(false_positives=0, false_negatives=0, runs=runs)
    return MechanismTest(
        name=name,
        short_run=short_run.name,
        situation=situation.name,
        statistic=fixed.distinguisher.label,
        kind=fixed.criterion,
        **asdict(errors),
        mu=short_run.mu,
        p_value=errors.p_value(short_run.mu, fixed.criterion),
        mu_bound=errors.mu_bound(level, fixed.criterion),
        mu_ceiling=perfect.mu_bound(level, fixed.criterion),
        epsilon_bound=errors.epsilon_bound(delta, level),
    )


def _errors(
    fixed: Rule,
    short_run: ShortRun,
    situation: Situation,
    runs: int,
    progress: Callable[[float], None],
    piece: int = 100,
) -> ErrorCounts:
    """The rule's errors over so many runs a side, in pieces that fit into memory."""
    false_positives = false_negatives = 0
    for done in range(0, runs, piece):
        without, with_ = _runs(short_run, situation, min(piece, runs - done), done + 1)
        false_positives += int(fixed.guesses(without).sum())
        false_negatives += int((~fixed.guesses(with_)).sum())
        progress(min(1.0, (done + piece) / runs))
    return ErrorCounts(false_positives=false_positives, false_negatives=false_negatives, runs=runs)


def _runs(
    short_run: ShortRun, situation: Situation, runs: int, *order: object
) -> tuple[Traces, Traces]:
    """Runs without the record and with it, in a mixed order; nothing links one to the next."""
    generator = public_generator("mechanism audit", short_run.name, situation.name, *order)
    sides: tuple[list[Any], list[Any]] = ([], [])
    for at in torch.randperm(2 * runs, generator=generator).tolist():
        sides[at % 2].append(short_run.run(situation, present=bool(at % 2)))
    return sides
