"""Conformance: what is correct passes every check, and no check can be waved through."""

from __future__ import annotations

from itertools import chain

import hypothesis
import pytest
from dpigu.audits import ConformanceError, check_stage, checks_for, parametrize_with_checks
from dpigu.audits.conformance.check import example_of, kind_of
from dpigu.audits.conformance.suite import all_checks
from dpigu.dpcore import GrammarError, RegistryError
from dpigu.dpcore.grammar.stages import KINDS
from dpigu.dpcore.registry import entries as registry
from dpigu.dpcore.registry.entries import OWN_DISTRIBUTION, entries
from dpigu.mechanisms import (
    AffineRestorer,
    ClippedCount,
    EmaStandardizer,
    Flat,
    Gaussian,
    GroupStandardizer,
    LinearUnfreeze,
    PerGroup,
    Quantile,
    RandomFreeze,
    RowTopK,
    SoftThreshold,
    TopK,
)

from tests.mutants import broken_public, table, twins
from tests.support.dpigu_command import dpigu, dpigu_json, one_line, strict_json

pytest_plugins = ("pytester",)

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
    AffineRestorer(of="adaclip"),
    PerGroup(groups="filter", weights="dimension"),
    Quantile(bound=1e-3, quantile=0.9, rate=1.0, limit=2.0),
    SoftThreshold(threshold=1.0),
]
assert twins, "importing it puts its stages into the table"
TWINS = [cls() for _, _, cls in table.TWINS]


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """The twins are registered for one test only."""
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    table.register_twins()


@pytest.fixture
def a_third():
    """A third of the profile's examples a check: 700 pairs of a stage and a check are tried."""
    before = hypothesis.settings.default
    hypothesis.settings.register_profile(
        "a third", before, max_examples=max(1, before.max_examples // 3)
    )
    hypothesis.settings.load_profile("a third")
    yield
    hypothesis.settings.register_profile("before", before)
    hypothesis.settings.load_profile("before")


@pytest.mark.deep
@parametrize_with_checks(BUILT_IN)
def test_built_in_stages_pass_every_check(a_third, stage, check):
    check(stage)


@pytest.mark.deep
@parametrize_with_checks(OTHER_OPTIONS)
def test_built_in_stages_pass_every_check_with_other_options(a_third, stage, check):
    check(stage)


@pytest.mark.deep
@parametrize_with_checks(TWINS)
def test_correct_stages_of_the_other_kinds_pass_every_check(a_third, stage, check):
    check(stage)


def test_a_query_that_a_clipper_asks_stands_beside_it_named_or_not():
    for beside in ([], [ClippedCount(noise_ratio=2.0)]):
        (check,) = (c for c in checks_for(Quantile(), beside) if c.name == "reads-released-only")
        check(Quantile())


def test_every_check_has_a_correct_stage_that_passes_it_and_every_kind_has_checks():
    stages = [*BUILT_IN, *TWINS]
    applied = chain.from_iterable(checks_for(stage) for stage in stages)
    assert {check.name for check in applied} == {check.name for check in all_checks()}
    assert {kind_of(stage) for stage in stages} == set(KINDS)


def test_a_stage_is_checked_by_name_too():
    check_stage("masked-weights")
    assert [c.name for c in checks_for("flat")] == [c.name for c in checks_for(Flat(bound=1.0))]


@pytest.mark.parametrize(
    ("what", "error"),
    [("no-such-stage", RegistryError), (object(), GrammarError), (Flat, GrammarError)],
)
def test_what_is_no_stage_is_refused(what, error):
    with pytest.raises(error):
        checks_for(what)


def test_a_broken_stage_fails_check_stage_at_its_first_failing_check():
    stage = next(m for m in table.MUTANTS if m.cls is broken_public.NeverUnfreezes).stage()
    failing = []
    for check in checks_for(stage):
        try:
            check(stage)
        except ConformanceError:
            failing.append(check.name)
    with pytest.raises(ConformanceError) as caught:
        check_stage(stage)
    assert caught.value.check == failing[0]
    assert "live-as-declared" in failing


def test_a_stage_that_refuses_every_space_fails_and_its_reason_is_told():
    class Refusing(EmaStandardizer):
        def init(self, context, reads):
            raise GrammarError("only for a thousand coordinates")

    check = next(c for c in checks_for(Refusing()) if c.name == "row-is-local")
    with pytest.raises(ConformanceError, match="refuses every example") as caught:
        check(Refusing())
    assert "a thousand coordinates" in str(caught.value)


EXEMPTIONS = {
    "above": "@pytest.mark.xfail\n@parametrize_with_checks(STAGES)\n{test}",
    "below": "@parametrize_with_checks(STAGES)\n@pytest.mark.xfail(strict=False)\n{test}",
    "of the module": "pytestmark = pytest.mark.xfail\n@parametrize_with_checks(STAGES)\n{test}",
    "while it runs": "@parametrize_with_checks(STAGES)\ndef test_it(stage, check, request):\n"
    "    request.applymarker(pytest.mark.xfail)\n    check(stage)",
    "by a call": "@parametrize_with_checks(STAGES)\ndef test_it(stage, check):\n"
    "    pytest.xfail('known')",
    "by skipping": "@parametrize_with_checks(STAGES)\ndef test_it(stage, check):\n"
    "    pytest.skip('known')",
}


@pytest.mark.parametrize("how", EXEMPTIONS)
def test_no_check_can_be_marked_as_expected_to_fail(how, pytester):
    """A passing stage marked so fails too: the mark itself is refused."""
    test = "def test_it(stage, check):\n    check(stage)\n    assert False"
    pytester.makepyfile(
        "import pytest\nfrom dpigu import MaskedWeights, parametrize_with_checks\n"
        "STAGES = [MaskedWeights()]\n"
        + EXEMPTIONS[how].format(test=test)
        + ("\n    assert False" if how == "while it runs" else "")
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=len(checks_for("masked-weights")))
    result.stdout.fnmatch_lines(["*cannot be expected to fail, nor skipped*"])


def test_a_stage_that_carries_a_mark_is_refused():
    marked = pytest.param(Gaussian(), marks=pytest.mark.xfail)
    with pytest.raises(GrammarError, match="without marks"):
        parametrize_with_checks([marked])


def test_the_command_prints_a_line_for_each_check_and_ends_with_0(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = dpigu("stages", "check", "masked-weights")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "masked-weights(), a point: 8 checks, up to 25 examples each"
    assert lines[1:] == [f"passed  {c.name}" for c in checks_for("masked-weights")]
    assert list(tmp_path.iterdir()) == []


def test_the_command_ends_with_1_and_the_counterexample_when_a_check_fails():
    mutant = next(m for m in table.MUTANTS if m.cls is broken_public.EmptySupport)
    mutant.stage()
    result = dpigu("stages", "check", f"mutant/{mutant.id}")
    assert result.exit_code == 1
    assert "FAILED  support-fits: the support is empty" in result.stdout
    assert "  scenario  space (weight 2)" in result.stdout
    told = strict_json(dpigu("stages", "check", f"mutant/{mutant.id}", "--json").stdout)
    (failed,) = (c for c in told["checks"] if c["name"] == "support-fits")
    assert (told["passed"], failed["passed"]) == (False, False)
    assert failed["problem"] == "the support is empty" and failed["remedy"]
    assert failed["example"]["at"] == "0"


def test_the_command_sets_options_and_refuses_mistakes_with_2():
    told = dpigu_json("stages", "check", "affine-restorer", "--set", "of=ema-standardizer")
    assert told["passed"] and told["options"] == {"of": "ema-standardizer"}
    for arguments in (["no-such-stage"], ["flat", "--set", "bound=-1"], ["flat", "--set", "bound"]):
        result = dpigu("stages", "check", *arguments)
        assert result.exit_code == 2
        assert one_line(result)
