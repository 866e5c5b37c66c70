"""The table of honest audits: what it counts, and that the page has what is kept."""

from __future__ import annotations

from benchmarks.audits.audit_calibration import allowed, done
from benchmarks.audits.honest_table import KEPT, LEVEL, PAGE, line, section, table

ROWS = done(KEPT)


def test_the_page_has_the_audits_that_are_kept() -> None:
    assert len({(row["preset"], row["seed"]) for row in ROWS}) == len(ROWS) > 100
    assert section(PAGE.read_text()) == table(ROWS)


def test_nothing_honest_is_contradicted_more_often_than_a_correct_audit_does() -> None:
    for name in {row["preset"] for row in ROWS}:
        own = [row for row in ROWS if row["preset"] == name]
        assert sum(row["p"] < LEVEL for row in own) <= allowed(len(own))
    assert sum(row["p"] < LEVEL for row in ROWS) <= allowed(len(ROWS))


def test_a_line_counts_by_each_share_of_the_error() -> None:
    rows = [
        {"p": p, "tests": {"likelihood ratio": ratio}, "sampler": 1.0, "noise": noise, "seconds": 4}
        for p, ratio, noise in ((0.02, 0.01, 1.0), (0.06, 0.03, 0.006), (0.04, 0.9, 0.004))
    ]
    assert line("all", rows) == "| all | 3 | 2 | 2 | 1 | 0 | 1 | 0.02 | 4.0 |"
