"""What a mechanism audit says: its tests, its verdict, and its report as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from dpigu.audits.advice import HARDLY
from dpigu.audits.mechanism.noise import NoiseAudit
from dpigu.audits.mechanism.sampling import SamplerAudit
from dpigu.audits.statistics import mu_to_epsilon
from dpigu.audits.verdict import Judged, Verdict
from dpigu.audits.wording import down, one_in, percent

SCHEMA = "dpigu/audit-mechanism/1"

SHARES = {
    "likelihood ratio": 0.5,
    "released vectors": 0.1,
    "states": 0.1,
    "sampler": 0.2,
    "noise": 0.1,
}
"""How the error probability 1 − confidence is divided among the tests that may decide."""

LEAST = 0.5
"""An audit with a lower bound below this share of μ has no power: half of the noise would pass."""

ASSUMPTIONS = (
    "Runs were independent: nothing but the plan and its options went from one to the next.",
    "A made-up space of few coordinates (5,402 for the noise by itself) and made-up rows stand "
    "for a model's: what a model's layers or a row engine do is not looked at here.",
)


@dataclass(frozen=True, kw_only=True)
class MechanismTest:
    """One test that decides: what was run, the rule's errors, and what they show.

    Args:
        name: of the test, a key of `SHARES`.
        short run: the steps that were run.
        situation: the record's rows, and the batch that it joins.
        statistic: what the distinguisher reads.
        kind: `total` or `pair`, the test of `dpigu.audits.statistics.error_counts`.
        mu: the event of these steps is μ-GDP.
        p_value: at the event, not divided.
        mu_bound, mu_ceiling: the largest μ that the errors reject at the divided level, and that
            no error at all would have.
        epsilon_bound: lower bound on ε at δ, by counting alone.
    """

    name: str
    short_run: str
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
class MechanismAudit(Judged):
    """A mechanism audit's answer: CONTRADICTED if and only if p_value < 1 − confidence.

    Args:
        p_value: of all tests together, each divided by its share (Bonferroni, weighted).
        tests: of the kernel; the likelihood ratio's is always there, others where something
            promised more than the event allows.
        sampler: the tests of the draws.
        noise: the tests of the noise by itself.
        explored: how many runs suggested them.
    """

    event: str
    noise_multipliers: tuple[float, ...]
    delta: float
    confidence: float
    p_value: float
    tests: tuple[MechanismTest, ...]
    sampler: SamplerAudit
    noise: NoiseAudit
    explored: int
    quick: bool
    assumptions: tuple[str, ...] = field(default=ASSUMPTIONS)

    @property
    def strongest(self) -> MechanismTest:
        """The kernel's test with the furthest reach."""
        return max(self.tests, key=lambda test: test.reach)

    @property
    def powerless(self) -> bool:
        """Whether it did not contradict, and could hardly have: not even perfect guesses would
        show 1.25 of the event's μ, or the record was told by less than half of it."""
        first = self.tests[0]
        hardly = first.mu_ceiling < HARDLY * first.mu or first.reach < LEAST
        return self.verdict is Verdict.NOT_CONTRADICTED and hardly

    @property
    def headline(self) -> str:
        """The first line of a report: the verdict, and whether it could have been another."""
        if not self.powerless:
            return self.verdict.value
        first = self.tests[0]
        if first.mu_ceiling < HARDLY * first.mu:
            found = f"the most it could have shown is μ = {down(first.mu_ceiling)}"
        else:
            found = f"it told one record by μ = {down(first.mu_bound)}"
        return f"{self.verdict.value}, no power: {found} of {first.mu:.4g}"

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return {
            "schema": SCHEMA,
            **asdict(self),
            **self.told(),
            "powerless": self.powerless,
            "noise_multipliers": list(self.noise_multipliers),
            "mu": self.strongest.mu,
            "epsilon_of_mu": mu_to_epsilon(self.strongest.mu, self.delta),
            "mu_bound": self.strongest.mu_bound,
            "reach": self.strongest.reach,
            "tests": [{**asdict(test), "reach": test.reach} for test in self.tests],
            "shares": dict(SHARES),
            "assumptions": list(self.assumptions),
        }


def judged(
    tests: tuple[MechanismTest, ...],
    sampler: SamplerAudit,
    noise: NoiseAudit,
    p_value: float,
    confidence: float,
) -> tuple[Verdict, str]:
    """The verdict and its sentence."""
    best = max(tests, key=lambda test: test.reach)
    sure = percent(confidence)
    if p_value < 1 - confidence:
        sentence = (
            "The evidence contradicts the event that accountants charge: were it true, evidence "
            f"this strong would turn up in at most one of {one_in(p_value)} audits."
        )
        if best.reach > 1:
            sentence += (
                f" What is released tells one record apart by more than μ = {down(best.mu_bound)}"
                f" ({sure} confidence), where the event allows {best.mu:.4g}."
            )
        if sampler.p_value / SHARES["sampler"] < 1 - confidence:
            sentence += f" The sampler's draws are not Poisson: {_told(sampler)}."
        if noise.worst is not None and noise.p_value / SHARES["noise"] < 1 - confidence:
            worst = noise.worst
            sentence += (
                f" The noise is not what is claimed: {worst.name} ({worst.where}): {worst.found}."
            )
        return Verdict.CONTRADICTED, sentence
    first = tests[0]
    if first.mu_ceiling <= first.mu:
        return Verdict.INVALID_AUDIT, (
            "This audit cannot support a verdict: so little noise is claimed that not even "
            "perfect guesses would pass the claim. Audit the same plan with more noise, such as "
            "a noise multiplier of 1."
        )
    return Verdict.NOT_CONTRADICTED, (
        "The evidence does not contradict the event that accountants charge. At "
        f"{sure} confidence what is released tells one record apart by μ = "
        f"{down(best.mu_bound)} or more, where the event allows {best.mu:.4g}; noise that were "
        f"{100 * (1 - first.reach):.0f}% smaller would probably have been contradicted. A claim "
        "that is not contradicted is not thereby proven."
    )


def _told(sampler: SamplerAudit) -> str:
    worst = sampler.worst
    return f"{worst.name} were {worst.observed:,}, where chance gives {worst.expected:,.1f}"
