"""Verdicts: what an audit may say, its exit status, and its report as plain data.

An audit contradicts a claim, or does not, or could not have. It never confirms one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from dpigu.accountants.base import stated
from dpigu.audits.advice import HARDLY, Advice, more_canaries
from dpigu.audits.statistics import AsClaimed, check_claim, check_confidence
from dpigu.audits.wording import down, one_in, percent, up
from dpigu.dpcore import DataError


class Verdict(StrEnum):
    """The three answers to "does evidence contradict the claim?"."""

    NOT_CONTRADICTED = "NOT CONTRADICTED"
    CONTRADICTED = "CONTRADICTED"
    INVALID_AUDIT = "INVALID AUDIT"

    @property
    def exit_status(self) -> int:
        """0, 1 and 3; 2 is kept for a user's error."""
        return _EXIT_STATUS[self]


_EXIT_STATUS = {Verdict.NOT_CONTRADICTED: 0, Verdict.CONTRADICTED: 1, Verdict.INVALID_AUDIT: 3}
_PLAINLY = {
    Verdict.NOT_CONTRADICTED: "Nothing was found against the claim; that is no proof of it.",
    Verdict.CONTRADICTED: "What was claimed does not hold up.",
    Verdict.INVALID_AUDIT: "This audit cannot answer the question: do not count it as a pass.",
}
_HARDLY = "This test could hardly have told you anything: do not count it as a pass."


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What every audit answers, whatever it looked at: a verdict and its sentence."""

    verdict: Verdict
    sentence: str

    @property
    def powerless(self) -> bool:
        """Whether it did not contradict, and could hardly have."""
        return False

    @property
    def exit_status(self) -> int:
        """The status that a command line ends with."""
        return self.verdict.exit_status

    @property
    def headline(self) -> str:
        """The first line of a report."""
        return self.verdict.value

    @property
    def plainly(self) -> str:
        """What it means for somebody who reads nothing else."""
        return _HARDLY if self.powerless else _PLAINLY[self.verdict]

    def told(self) -> dict[str, Any]:
        """What stands in every report as plain data."""
        return {
            "verdict": self.verdict.value,
            "headline": self.headline,
            "plainly": self.plainly,
            "sentence": self.sentence,
            "exit_status": self.exit_status,
        }


@dataclass(frozen=True, kw_only=True)
class AuditReport(Judged):
    """One audit's answer: CONTRADICTED if and only if p_value < 1 − confidence.

    An invalid audit may leave the claim, p-value, bound and ceiling None. `checks` are
    (name, result) pairs, `assumptions` plain sentences. `beyond_guesses`: whether tests
    beside those of guesses may decide, which have power whatever the ceiling of the guesses.
    `advice`: what would have power, where this design had none.

    Raises: DataError where the verdict does not follow from the numbers.
    """

    claim_epsilon: float | None
    delta: float | None
    p_value: float | None
    lower_bound: float | None
    ceiling: float | None
    confidence: float
    beyond_guesses: bool = False
    assumptions: tuple[str, ...] = ()
    checks: tuple[tuple[str, str], ...] = ()
    advice: Advice | None = None

    def __post_init__(self) -> None:
        check_confidence(self.confidence)
        if self.verdict is Verdict.INVALID_AUDIT:
            return
        claim, delta, p, bound = self.claim_epsilon, self.delta, self.p_value, self.lower_bound
        if claim is None or delta is None or p is None or bound is None or self.ceiling is None:
            raise DataError("a verdict needs a claim and its numbers", where=self.verdict)
        _check_numbers(claim, delta, p, bound, self.ceiling)
        rejected = p < 1 - self.confidence
        if rejected != (self.verdict is Verdict.CONTRADICTED) or (bound > claim and not rejected):
            raise DataError(
                "the verdict does not follow from the numbers",
                where=self.verdict,
                got=f"p = {p:.3g} at the claim {claim:.6g}, lower bound {bound:.6g}",
                remedy="p-value, bound and confidence must come from the same tests.",
            )

    @property
    def powerless(self) -> bool:
        """Whether it did not contradict, and could hardly have: ceiling < 1.25 · claim."""
        if self.verdict is not Verdict.NOT_CONTRADICTED or self.beyond_guesses:
            return False
        assert self.claim_epsilon is not None and self.ceiling is not None
        return hardly(self.claim_epsilon, self.ceiling)

    @property
    def headline(self) -> str:
        """The first line of a report: the verdict, and whether it could have been another."""
        if not self.powerless:
            return self.verdict.value
        assert self.claim_epsilon is not None and self.ceiling is not None
        most = f"{down(self.ceiling)} of {stated(self.claim_epsilon)}"
        return f"{self.verdict.value}, no power: the most it could have shown is {most}"

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`: numbers that are not finite become None."""
        plain = {key: _finite(value) for key, value in asdict(self).items()}
        return plain | {
            **self.told(),
            "powerless": self.powerless,
            "assumptions": list(self.assumptions),
            "checks": [{"name": name, "result": result} for name, result in self.checks],
        }


def judge(
    *,
    claim_epsilon: float,
    delta: float,
    p_value: float,
    lower_bound: float,
    ceiling: float,
    confidence: float,
    against: str = "",
    beyond: str = "",
    assumptions: Iterable[str] = (),
    checks: Iterable[tuple[str, str]] = (),
    advise: Callable[[], Advice] | None = None,
) -> AuditReport:
    """The report of an audit that ran: contradicted if and only if p_value < 1 − confidence.

    `against` names what was rejected, where that says more than the claim (a run's accounting);
    `beyond` says what tests beside those of guesses found, where they may decide and have power.
    `advise` gives what would have power, where this design had none; by default more canaries.
    A ceiling of zero cannot support a verdict: INVALID AUDIT, unless the p-value (of another
    valid test among them) rejects all the same.
    Raises: DataError for numbers that cannot be.
    """
    check_confidence(confidence)
    _check_numbers(claim_epsilon, delta, p_value, lower_bound, ceiling)
    contradicted, advice = p_value < 1 - confidence, None
    if contradicted:
        verdict = Verdict.CONTRADICTED
        sentence = _contradicted(claim_epsilon, delta, p_value, lower_bound, confidence, against)
    elif ceiling <= 0:
        verdict = Verdict.INVALID_AUDIT
        sentence = _invalid(
            "even if every guess were right, it could not show any leak",
            "Audit with more canaries or trials.",
        )
    else:
        verdict = Verdict.NOT_CONTRADICTED
        sentence = _not_contradicted(claim_epsilon, delta, lower_bound, ceiling, confidence, beyond)
        if not beyond and hardly(claim_epsilon, ceiling):
            advice = advise() if advise else more_canaries(claim_epsilon, delta, confidence)
    return AuditReport(
        verdict=verdict,
        sentence=sentence,
        claim_epsilon=claim_epsilon,
        delta=delta,
        p_value=p_value,
        lower_bound=lower_bound,
        ceiling=ceiling,
        confidence=confidence,
        beyond_guesses=bool(beyond),
        assumptions=tuple(assumptions),
        checks=tuple(checks),
        advice=advice,
    )


def hardly(claim: float, ceiling: float) -> bool:
    """Whether an audit with this ceiling could hardly have contradicted the claim."""
    return ceiling < HARDLY * claim


def invalid_audit(
    reason: str,
    *,
    remedy: str = "",
    claim_epsilon: float | None = None,
    delta: float | None = None,
    confidence: float = 0.95,
    assumptions: Iterable[str] = (),
    checks: Iterable[tuple[str, str]] = (),
) -> AuditReport:
    """The report of an audit whose evidence cannot support a verdict, with the reason."""
    return AuditReport(
        verdict=Verdict.INVALID_AUDIT,
        sentence=_invalid(reason, remedy),
        claim_epsilon=claim_epsilon,
        delta=delta,
        p_value=None,
        lower_bound=None,
        ceiling=None,
        confidence=confidence,
        assumptions=tuple(assumptions),
        checks=tuple(checks),
    )


def _check_numbers(claim: float, delta: float, p: float, bound: float, ceiling: float) -> None:
    check_claim(claim, delta)
    if not (0 <= p <= 1 and 0 <= bound < math.inf and 0 <= ceiling < math.inf):
        raise DataError(
            "numbers that cannot be",
            where="audit report",
            got=f"p = {p}, lower bound {bound}, ceiling {ceiling}",
        )


def _contradicted(
    claim: float, delta: float, p: float, bound: float, confidence: float, against: str
) -> str:
    what = against or f"the claim {_tested(claim, delta)}"
    sentence = (
        f"The evidence contradicts {what}: were it true, "
        f"evidence this strong would turn up in at most one of {one_in(p)} audits."
    )
    if against:
        sentence += (
            f" The claim {_claim(claim, delta)} rests on it; by itself, without the noise and the"
            " steps that it names, it is not contradicted."
        )
    if bound > claim:
        sentence += f" At {percent(confidence)} confidence the true ε is at least {down(bound)}."
    return sentence


def _not_contradicted(
    claim: float,
    delta: float,
    bound: float,
    ceiling: float,
    confidence: float,
    beyond: str,
) -> str:
    found = (
        f"shows a leak of at least ε = {down(bound)}"
        if down(bound) != "0"
        else "shows no leak that chance would not explain"
    )
    sentence = (
        f"The evidence does not contradict the claim {_claim(claim, delta)}. At "
        f"{percent(confidence)} confidence it {found}; the most that "
        f"{'guesses' if beyond else 'this audit'} could have shown is ε = {down(ceiling)}."
    )
    if beyond:
        sentence += f" {beyond}"
    elif hardly(claim, ceiling):
        reach = (
            "That stays within the claim, so even perfect guesses would have shown no more than"
            " the claim allows"
            if ceiling <= claim
            else "That exceeds the claim by less than a quarter, so only guesses that are nearly"
            " all right could have contradicted it"
        )
        sentence += f" {reach}."
    return sentence + " A claim that is not contradicted is not thereby proven."


def told_as_numbers(found: AsClaimed) -> str:
    """What the observations show as numbers."""
    sentence = (
        f"As numbers, the releases show noise below {up(found.noise)} of the claimed, and a record "
        f"that moves them by more than {down(found.reach)} of the clipping bound"
    )
    if found.epsilon is not None:
        sentence += (
            f": in a mechanism of the form that the run claims, ε is at least {down(found.epsilon)}"
        )
    return sentence + "."


def _invalid(reason: str, remedy: str) -> str:
    return f"This audit cannot support a verdict: {reason}. {remedy}".strip()


def _claim(epsilon: float, delta: float) -> str:
    return f"ε = {stated(epsilon)} at δ = {delta:g}"


def _tested(epsilon: float, delta: float) -> str:
    """A claim that is contradicted: as it was made, and what was tested, should they differ."""
    said = stated(epsilon)
    exactly = "" if float(said) == epsilon else f" (exactly {epsilon!r})"
    return f"ε = {said}{exactly} at δ = {delta:g}"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
