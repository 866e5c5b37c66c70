"""The checks that every stage must pass; a plugin author needs no trainer for them."""

from dpigu.audits.conformance.check import Check, ConformanceError, described, example_of, shown
from dpigu.audits.conformance.suite import check_stage, checks_for, parametrize_with_checks

__all__ = [
    "Check",
    "ConformanceError",
    "check_stage",
    "checks_for",
    "described",
    "example_of",
    "parametrize_with_checks",
    "shown",
]
