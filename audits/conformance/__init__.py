"""The checks that every stage must pass; a plugin author needs no trainer for them."""

from dpigu.audits.conformance.check import Check, ConformanceError, described, example_of, shown
from dpigu.audits.conformance.suite import (
    all_checks,
    check_stage,
    checks_for,
    parametrize_with_checks,
)

__all__ = [
    "Check",
    "ConformanceError",
    "all_checks",
    "check_stage",
    "checks_for",
    "described",
    "example_of",
    "parametrize_with_checks",
    "shown",
]
