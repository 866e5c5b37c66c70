"""The audit of a mechanism: its kernel run many times on neighbouring batches, without training.

Explore, then confirm. A few runs of every situation suggest a statistic, a threshold and a test;
runs made afterwards, which suggested nothing, decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch

from audits.adversary import SITUATIONS, Situation
from audits.bounds import check_claim, check_confidence
from audits.courses import SPACE, Course, MakeReleaser, courses
from audits.fdp import mu_to_epsilon
from audits.sampling_audit import SamplerAudit, audit_sampler, records_for
from audits.separation import (
    Rule,
    Separation,
    Traces,
    expected_distance,
    likelihood_separation,
    rule,
    search,
)
from audits.trials import Errors, runs_for_ceiling, runs_needed
from audits.verdicts import Verdict
from dpcore import Kernel, NoiseSource, Plan, PoissonSampler, PrivacyError, Space
from mechanisms.public_random import public_generator

SCHEMA = "dpigu/audit-mechanism/1"
RATE, DECLARED = 0.1, 320
"""The sampler that is audited unless another is given."""

SHARES = {"likelihood ratio": 0.6, "released vectors": 0.1, "states": 0.1, "sampler": 0.2}
"""How the error probability 1 − confidence is divided among the tests that may decide."""

ASSUMPTIONS = (
    "Runs were independent: nothing but the plan and its options went from one to the next.",
    "A made-up space of few coordinates and made-up rows stand for a model's: what a model's "
    "layers or a row engine do is not looked at here.",
)


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How many runs a side: to explore each situation, to train a rule, and to decide.

    As many decide as `reach` of μ needs, but from `fewest` to `usual`; and up to `most`, where no
    fewer could contradict.
    """

    explore: int
    train: int
    fewest: int
    usual: int
    most: int
    draws: int
    reach: float = 0.91

    def runs(self, mu: float, level: float) -> int:
        """Runs a side that decide about μ at this level."""
        wanted = min(max(runs_needed(mu, level, self.reach), self.fewest), self.usual)
        return max(wanted, min(runs_for_ceiling(MARGIN * mu, level), self.most))


MARGIN = 1.1
"""How far above μ perfect guesses must be able to reach."""
FULL = Effort(explore=40, train=150, fewest=500, usual=10_000, most=10_000, draws=1000)
QUICK = Effort(explore=5, train=30, fewest=100, usual=100, most=2000, draws=400)


@dataclass(frozen=True, kw_only=True)
class MechanismTest:
    """One test that decides: what was run, the rule's errors, and what they show.

    Args:
        name: of the test, a key of `SHARES`.
        course: the steps that were run.
        situation: the record's rows, and the batch that it joins.
        statistic: what the rule reads.
        kind: `total` or `pair`, the test of `audits.trials`.
        mu: the event of these steps is μ-GDP.
        p_value: at the event, not divided.
        mu_bound, mu_ceiling: the largest μ that the errors reject at the divided level, and that
            no error at all would have.
        epsilon_bound: lower bound on ε at δ, by counting alone.
    """

    name: str
    course: str
    situation: str
    statistic: str
    kind: str
    false_positives: int
    false_negatives: int
    runs: int
    mu: float
    p_value: float
    mu_bound: float
    mu_ceiling: float
    epsilon_bound: float

    @property
    def reach(self) -> float:
        """The bound in units of what the event allows; above 1 it contradicts the event."""
        return self.mu_bound / self.mu


@dataclass(frozen=True, kw_only=True)
class MechanismAudit:
    """A mechanism audit's answer: CONTRADICTED if and only if p_value < 1 − confidence.

    Args:
        p_value: of all tests together, each divided by its share (Bonferroni, weighted).
        tests: of the kernel; the likelihood ratio's is always there, others where something
            promised more than the event allows.
        sampler: the tests of the draws.
        explored: how many runs suggested them.
    """

    verdict: Verdict
    sentence: str
    event: str
    noise_multipliers: tuple[float, ...]
    delta: float
    confidence: float
    p_value: float
    tests: tuple[MechanismTest, ...]
    sampler: SamplerAudit
    explored: int
    quick: bool
    assumptions: tuple[str, ...] = field(default=ASSUMPTIONS)

    @property
    def exit_status(self) -> int:
        """The status that a command line ends with."""
        return self.verdict.exit_status

    @property
    def strongest(self) -> MechanismTest:
        """The kernel's test with the furthest reach."""
        return max(self.tests, key=lambda test: test.reach)

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return {
            "schema": SCHEMA,
            **asdict(self),
            "verdict": self.verdict.value,
            "noise_multipliers": list(self.noise_multipliers),
            "mu": self.strongest.mu,
            "epsilon_of_mu": mu_to_epsilon(self.strongest.mu, self.delta),
            "mu_bound": self.strongest.mu_bound,
            "reach": self.strongest.reach,
            "tests": [{**asdict(test), "reach": test.reach} for test in self.tests],
            "shares": dict(SHARES),
            "assumptions": list(self.assumptions),
            "exit_status": self.exit_status,
        }


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

    Nothing is trained. For every situation of `audits.adversary`, the plan's own kernel runs a
    few steps with and without one record at rate 1, where the event of the steps is μ-GDP. A
    part of the runs chooses what to look at; the rest is counted, and the errors are tested
    against the curve G_μ (`audits.trials`). The sampler's draws are tested by themselves.

    Args:
        plan: private; its noise multipliers are taken as they are.
        sampler: whose draws are tested; rate 0.1 of 320 records by default.
        delta: for the ε that is shown beside μ.
        confidence: of the verdict, divided among its tests by `SHARES`.
        quick: in three seconds, and only gross mistakes are seen.
        space: where rows live, if the stages need more than the 24 coordinates of three layers.
        kernel: what releases a step, if not `dpcore.Kernel`.
        noise: where normal draws come from; the system's unless a test needs them repeatable.
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
    tried = courses(plan, space, kernel, noise)
    for course in tried:
        course.check()
    candidates = list(_explored(tried, effort, progress))
    tests = tuple(_decided(candidates, effort, 1 - confidence, delta, progress))
    small = PoissonSampler(sampler.rate, records_for(sampler.rate, sampler.records, effort.draws))
    draws = audit_sampler(small, draws=effort.draws, draw=sampler.draw)
    p_values = [test.p_value / SHARES[test.name] for test in tests]
    p_value = min(1.0, *p_values, draws.p_value / SHARES["sampler"])
    verdict, sentence = _judged(tests, draws, p_value, confidence)
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
        explored=2 * effort.explore * len(tried) * len(SITUATIONS),
        quick=quick,
    )


@dataclass(frozen=True)
class _Candidate:
    """What a few runs of one situation suggest for one test.

    `promise` is the distance that is expected, in units of the event's μ.
    """

    test: str
    course: Course
    situation: Situation
    found: Separation
    promise: float


def _explored(
    tried: tuple[Course, ...], effort: Effort, progress: Callable[[float], None]
) -> Iterator[_Candidate]:
    """For every course, situation and test, what separates a few runs most."""
    places = [(course, situation) for course in tried for situation in SITUATIONS]
    for i, (course, situation) in enumerate(places):
        without, with_ = _runs(course, situation, effort.explore)
        ratio = likelihood_separation(without, with_)
        known = course.distance * expected_distance(with_)
        promise = max(ratio.sure, known) / course.mu
        yield _Candidate("likelihood ratio", course, situation, ratio, promise)
        for part in ("released vectors", "states"):
            found = search(without, with_, part)
            yield _Candidate(part, course, situation, found, found.sure / course.mu)
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
    chosen = []
    for test in ("likelihood ratio", "released vectors", "states"):
        best = max(
            (c for c in candidates if c.test == test),
            key=lambda c: (round(c.promise, 2), c.found.distance / c.course.mu),
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
    course, situation, name = candidate.course, candidate.situation, candidate.test
    level = error * SHARES[name]
    fixed = rule(candidate.found.statistic, *_runs(course, situation, effort.train), level=level)
    runs = effort.runs(course.mu, level)
    errors = _errors(fixed, course, situation, runs, progress)
    perfect = Errors(false_positives=0, false_negatives=0, runs=runs)
    return MechanismTest(
        name=name,
        course=course.name,
        situation=situation.name,
        statistic=fixed.statistic.label,
        kind=fixed.kind,
        **asdict(errors),
        mu=course.mu,
        p_value=errors.p_value(course.mu, fixed.kind),
        mu_bound=errors.mu_bound(level, fixed.kind),
        mu_ceiling=perfect.mu_bound(level, fixed.kind),
        epsilon_bound=errors.epsilon_bound(delta, level),
    )


def _errors(
    fixed: Rule,
    course: Course,
    situation: Situation,
    runs: int,
    progress: Callable[[float], None],
    piece: int = 100,
) -> Errors:
    """The rule's errors over so many runs a side, in pieces that fit into memory."""
    false_positives = false_negatives = 0
    for done in range(0, runs, piece):
        without, with_ = _runs(course, situation, min(piece, runs - done), done + 1)
        false_positives += int(fixed.guesses(without).sum())
        false_negatives += int((~fixed.guesses(with_)).sum())
        progress(min(1.0, (done + piece) / runs))
    return Errors(false_positives=false_positives, false_negatives=false_negatives, runs=runs)


def _runs(course: Course, situation: Situation, runs: int, *order: object) -> tuple[Traces, Traces]:
    """Runs without the record and with it, in a mixed order; nothing links one to the next."""
    generator = public_generator("mechanism audit", course.name, situation.name, *order)
    sides: tuple[list[Any], list[Any]] = ([], [])
    for at in torch.randperm(2 * runs, generator=generator).tolist():
        sides[at % 2].append(course.run(situation, present=bool(at % 2)))
    return sides


def _judged(
    tests: tuple[MechanismTest, ...], sampler: SamplerAudit, p_value: float, confidence: float
) -> tuple[Verdict, str]:
    """The verdict and its sentence."""
    best = max(tests, key=lambda test: test.reach)
    sure = f"{100 * confidence:.6g}%"
    if p_value < 1 - confidence:
        times = f"{math.floor(1 / p_value):,}" if p_value > 1e-9 else "a billion"
        sentence = (
            "The evidence contradicts the event that accountants charge: were it true, evidence "
            f"this strong would turn up in at most one of {times} audits."
        )
        if best.reach > 1:
            sentence += (
                f" What is released tells one record apart by more than μ = {_down(best.mu_bound)}"
                f" ({sure} confidence), where the event allows {best.mu:.4g}."
            )
        if sampler.p_value / SHARES["sampler"] < 1 - confidence:
            sentence += f" The sampler's draws are not Poisson: {_told(sampler)}."
        return Verdict.CONTRADICTED, sentence
    first = tests[0]
    if first.mu_ceiling <= first.mu:
        return Verdict.INVALID_AUDIT, (
            "This audit cannot support a verdict: so little noise is claimed that not even "
            "perfect guesses would pass the claim. Audit the same plan with more noise, such as "
            "--noise-multiplier 1."
        )
    return Verdict.NOT_CONTRADICTED, (
        "The evidence does not contradict the event that accountants charge. At "
        f"{sure} confidence what is released tells one record apart by μ = "
        f"{_down(best.mu_bound)} or more, where the event allows {best.mu:.4g}; noise that were "
        f"{100 * (1 - first.reach):.0f}% smaller would probably have been contradicted. A claim "
        "that is not contradicted is not thereby proven."
    )


def _told(sampler: SamplerAudit) -> str:
    worst = sampler.worst
    return f"{worst.name} were {worst.observed:,}, where chance gives {worst.expected:,.1f}"


def _down(value: float) -> str:
    return f"{math.floor(value * 1000) / 1000:.3f}"
