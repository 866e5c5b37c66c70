"""Every check of the conformance suite rejects the stages that were broken for it."""

from __future__ import annotations

import re

import pytest
from dpigu.audits import checks_for, conformance
from dpigu.audits.conformance.check import ConformanceError
from dpigu.dpcore.registry import entries as registry

from tests.mutants import broken_boundary, broken_public, broken_records, broken_rows
from tests.mutants.table import MUTANTS

assert broken_boundary and broken_public and broken_records and broken_rows


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """Broken stages are registered for one test only."""
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))


@pytest.mark.parametrize("mutant", MUTANTS, ids=[m.id for m in MUTANTS])
def test_the_check_rejects_the_broken_stage_and_says_why(mutant):
    stage = mutant.stage()
    beside = tuple(cls() for cls in mutant.beside)
    (check,) = (c for c in checks_for(stage, beside) if c.name == mutant.by)
    with pytest.raises(ConformanceError) as caught:
        check(stage)
    error = caught.value
    assert re.search(mutant.says, error.problem)
    for part in (mutant.by, check.guards, error.remedy):
        assert part and part in str(error)


def test_every_check_has_a_broken_stage_that_it_rejects():
    assert {m.by for m in MUTANTS} == {check.name for check in conformance.all_checks()}


def test_names_of_checks_and_of_broken_stages_are_unique():
    for names in ([c.name for c in conformance.all_checks()], [m.id for m in MUTANTS]):
        assert len(set(names)) == len(names)
