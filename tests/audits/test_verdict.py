"""Verdicts: when each is given, what it says, and that it is plain data."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from dpigu.audits.advice import mechanism, more_canaries
from dpigu.audits.statistics.one_run import guess_grid, one_run_test
from dpigu.audits.verdict import AuditReport, Verdict, invalid_audit, judge
from dpigu.dpcore.errors import DpiguError
from hypothesis import given
from hypothesis import strategies as st

HONEST: dict[str, Any] = {
    "claim_epsilon": 4.0,
    "delta": 1e-5,
    "p_value": 0.4,
    "lower_bound": 0.31456,
    "ceiling": 5.7829,
    "confidence": 0.95,
}
BROKEN = HONEST | {"claim_epsilon": 0.1, "p_value": 0.0003}
REPORTS = [judge(**HONEST), judge(**BROKEN), invalid_audit("no coins were flipped")]


@pytest.mark.parametrize(
    ("verdict", "text", "status"),
    [
        (Verdict.NOT_CONTRADICTED, "NOT CONTRADICTED", 0),
        (Verdict.CONTRADICTED, "CONTRADICTED", 1),
        (Verdict.INVALID_AUDIT, "INVALID AUDIT", 3),
    ],
)
def test_verdicts_have_their_words_and_exit_statuses(
    verdict: Verdict, text: str, status: int
) -> None:
    assert (str(verdict), verdict.exit_status) == (text, status)


@given(st.floats(0, 1), st.floats(0, 20), st.floats(0.5, 0.999))
def test_contradicted_if_and_only_if_the_p_value_rejects(
    p: float, claim: float, confidence: float
) -> None:
    numbers = {"p_value": p, "claim_epsilon": claim, "lower_bound": 0.0, "confidence": confidence}
    report = judge(**(HONEST | numbers), advise=mechanism)
    assert (report.verdict is Verdict.CONTRADICTED) == (p < 1 - confidence)
    assert report.exit_status == (1 if p < 1 - confidence else 0)


@pytest.mark.parametrize("claim", [0.1, 0.5, 1.0, 3.0])
def test_verdict_follows_from_a_one_run_test(claim: float) -> None:
    coins = [i % 2 for i in range(200)]
    scores = [c + 0.01 * (i % 100) for i, c in enumerate(coins)]
    result = one_run_test(scores, coins, guess_grid(200), claim, 1e-5)
    report = judge(
        claim_epsilon=claim,
        delta=1e-5,
        p_value=result.p_value,
        lower_bound=result.lower_bound,
        ceiling=result.ceiling,
        confidence=result.confidence,
    )
    assert (report.verdict is Verdict.CONTRADICTED) == (result.lower_bound > claim)


def test_design_that_can_show_nothing_is_invalid() -> None:
    report = judge(**(HONEST | {"ceiling": 0.0, "lower_bound": 0.0, "p_value": 1.0}))
    assert report.verdict is Verdict.INVALID_AUDIT
    assert "more canaries" in report.sentence


def test_sentences_are_plain_and_honest() -> None:
    honest, broken, invalid = (report.sentence for report in REPORTS)
    assert "does not contradict the claim ε = 4 at δ = 1e-05" in honest
    assert "at least ε = 0.314;" in honest
    assert "the most that this audit could have shown is ε = 5.78." in honest
    assert "not thereby proven" in honest
    assert "contradicts the claim ε = 0.1" in broken
    assert "at most one of 3,333 audits" in broken
    assert "At 95% confidence the true ε is at least 0.314." in broken
    assert invalid == "This audit cannot support a verdict: no coins were flipped."


def test_claim_beyond_the_ceiling_is_said_to_be_out_of_reach() -> None:
    out_of_reach = judge(**(HONEST | {"claim_epsilon": 8.0})).sentence
    assert "even perfect guesses would have shown no more" in out_of_reach
    assert "even perfect guesses" not in REPORTS[0].sentence


def test_a_design_that_could_hardly_contradict_says_so_first() -> None:
    """A ceiling of 4.58 against a claim of 4: nearly perfect guesses alone would have told."""
    report = judge(**(HONEST | {"ceiling": 4.58}))
    hardly = "NOT CONTRADICTED, no power: the most it could have shown is 4.58 of 4"
    assert report.headline == hardly and report.to_json()["headline"] == hardly
    assert report.powerless and report.exit_status == 0
    able = judge(**(HONEST | {"ceiling": 5.1}))
    assert able.headline == "NOT CONTRADICTED" and not able.powerless


def test_what_it_means_is_said_plainly_and_no_power_is_no_pass() -> None:
    powerless = judge(**(HONEST | {"ceiling": 3.0}))
    plain = [report.plainly for report in (*REPORTS, powerless)]
    assert len(set(plain)) == 4 and "no proof" in plain[0] and "not hold up" in plain[1]
    assert all("do not count it as a pass" in text for text in plain[2:])
    assert powerless.told()["plainly"] == plain[3]


def test_only_a_design_without_power_has_an_advice() -> None:
    assert all(report.advice is None for report in REPORTS)
    powerless = judge(**(HONEST | {"ceiling": 3.0}))
    assert powerless.advice == more_canaries(4.0, 1e-5, 0.95)
    other = mechanism()
    assert judge(**(HONEST | {"ceiling": 3.0}), advise=lambda: other).advice is other
    assert judge(**HONEST, advise=pytest.fail).advice is None


@given(st.floats(1e-3, 60), st.floats(0, 60))
def test_a_claim_is_printed_no_smaller_and_a_ceiling_no_larger_than_it_is(
    claim: float, ceiling: float
) -> None:
    numbers = {"claim_epsilon": claim, "ceiling": ceiling, "lower_bound": 0.0}
    report = judge(**(HONEST | numbers), advise=mechanism)
    if report.powerless:
        most, of = report.headline.rsplit("is ", 1)[1].split(" of ")
        assert float(most) <= ceiling and claim <= float(of) <= 1.001 * claim
        assert f"ε = {of} at" in report.sentence and f"ε = {most}." in report.sentence


@pytest.mark.parametrize(
    "report", [*REPORTS, judge(**(HONEST | {"claim_epsilon": 8.0, "lower_bound": 0.0}))]
)
def test_no_sentence_calls_anything_private(report: AuditReport) -> None:
    assert "private" not in report.sentence.lower()
    assert report.sentence.endswith(".")
    assert "\n" not in report.sentence


@given(st.floats(0, 50))
def test_bound_is_never_printed_larger_than_it_is(bound: float) -> None:
    sentence = judge(**(BROKEN | {"claim_epsilon": 0.0, "lower_bound": bound})).sentence
    if bound > 0:
        assert float(sentence.rsplit(" ", 1)[1].rstrip(".")) <= bound


def test_lower_bound_above_the_claim_is_never_waved_through() -> None:
    with pytest.raises(DpiguError, match="does not follow"):
        judge(**(HONEST | {"lower_bound": 4.5}))


@pytest.mark.parametrize("verdict", [Verdict.CONTRADICTED, Verdict.NOT_CONTRADICTED])
def test_report_refuses_a_verdict_against_its_numbers(verdict: Verdict) -> None:
    report = REPORTS[verdict is Verdict.CONTRADICTED]
    other = Verdict.NOT_CONTRADICTED if report is REPORTS[1] else Verdict.CONTRADICTED
    assert report.verdict is verdict
    with pytest.raises(DpiguError, match="does not follow"):
        replace(report, verdict=other)


@pytest.mark.parametrize(
    "change",
    [
        {"p_value": math.nan},
        {"p_value": 1.5},
        {"lower_bound": -0.1},
        {"lower_bound": math.inf},
        {"ceiling": math.inf},
        {"ceiling": math.nan},
        {"claim_epsilon": math.nan},
        {"delta": 1.0},
        {"confidence": 1.0},
    ],
)
def test_numbers_that_cannot_be_are_refused_in_one_line(change: dict[str, float]) -> None:
    with pytest.raises(DpiguError) as caught:
        judge(**(HONEST | change))
    assert "\n" not in str(caught.value)


def test_verdict_without_its_numbers_is_refused() -> None:
    with pytest.raises(DpiguError, match="needs a claim"):
        replace(REPORTS[0], p_value=None)


@pytest.mark.parametrize("report", [*REPORTS, replace(REPORTS[2], p_value=math.nan)])
def test_json_has_no_nan_and_no_infinity(report: AuditReport) -> None:
    text = json.dumps(report.to_json(), allow_nan=False)
    assert json.loads(text) == report.to_json()
    assert json.loads(text)["verdict"] == str(report.verdict)


def test_json_keeps_every_field() -> None:
    checks = (("coins", "503 of 1000 in: consistent with fair coins"),)
    report = judge(**HONEST, assumptions=["independent fair coins"], checks=checks)
    assert report.to_json() == HONEST | {
        "verdict": "NOT CONTRADICTED",
        "headline": "NOT CONTRADICTED",
        "plainly": report.plainly,
        "advice": None,
        "powerless": False,
        "beyond_guesses": False,
        "sentence": report.sentence,
        "assumptions": ["independent fair coins"],
        "checks": [{"name": "coins", "result": checks[0][1]}],
        "exit_status": 0,
    }


def test_invalid_audit_names_the_remedy() -> None:
    report = invalid_audit("the run has no canaries", remedy="Train with --canaries 1000.")
    assert report.sentence.endswith("no canaries. Train with --canaries 1000.")
    assert report.exit_status == 3
    assert report.to_json()["p_value"] is None
