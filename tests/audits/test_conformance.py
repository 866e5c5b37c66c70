"""Conformance: what is correct passes every check, and no check can be waved through."""

from __future__ import annotations

import subprocess
import sys

import pytest

from audits import ConformanceError, check_stage, checks_for, parametrize_with_checks
from audits.checks_base import example_of
from audits.conformance import all_checks
from dpcore import GrammarError, RegistryError, register
from dpcore.registry import OWN_DISTRIBUTION, entries
from mechanisms import (
    AffineRestorer,
    EmaStandardizer,
    Flat,
    GroupStandardizer,
    LinearUnfreeze,
    RandomFreeze,
    RowTopK,
    TopK,
)
from tests.mutants import twins

BUILT_IN = [example_of(entry) for entry in entries()[0] if entry.distribution == OWN_DISTRIBUTION]
OTHER_OPTIONS = [
    Flat(bound=1e-4),
    RowTopK(ratio=0.05),
    TopK(ratio=1.0, reads=("coherent",)),
    LinearUnfreeze(ratio=0.5, end=0.5, reads=("weight-magnitude",)),
    RandomFreeze(ratio=1.0, end=1.0),
    EmaStandardizer(gamma1=0.0, gamma2=0.0, mu=0.1),
    GroupStandardizer(grouping="filter", refresh=1, certainty=0.0),
    AffineRestorer(of="ema-standardizer"),
]
TWINS = [twins.PerLayer(), twins.Fold(), twins.SoftThreshold(), twins.ReRanked(), twins.Count()]


@parametrize_with_checks(BUILT_IN)
def test_built_in_stages_pass_every_check(stage, check):
    check(stage)
