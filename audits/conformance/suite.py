"""Conformance: the small named checks that any stage of any kind must pass.

Which ones apply follows from a stage's kind and from what it declares; no stage is exempt by
its name, and none can be marked as expected to fail. In a plugin's own tests:

    from dpigu import parametrize_with_checks

    @parametrize_with_checks([MyStage(), MyStage(ratio=0.1)])
    def test_conforms(stage, check):
        check(stage)

The checks find mistakes by trying, subtle ones too. They are no sandbox: a stage that is
written to deceive them can. Examples come from Hypothesis, under its active profile.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dpigu.audits.conformance.check import Check, example_of, kind_of
from dpigu.audits.conformance.checks import (
    any_stage,
    boundary,
    noise,
    posts,
    records,
    rows,
    state,
    support,
)
from dpigu.dpcore import GrammarError
from dpigu.dpcore.grammar.stages import name_of
from dpigu.dpcore.registry import lookup

MODULES = (
    any_stage,
    state,
    rows,
    boundary,
    noise,
    support,
    posts,
    records,
)
EXEMPTIONS = ("xfail", "skip", "skipif")


def all_checks() -> list[Check]:
    """Every check there is. The one that looks for a hidden memory comes first, while it is
    empty."""
    return [c for module in MODULES for c in vars(module).values() if isinstance(c, Check)]


def checks_for(stage: object, beside: Sequence[object] = ()) -> list[Check]:
    """The checks that a stage must pass, chosen by its kind and by what it declares.

    Args:
        stage: an instance, or a registered name (with the stage's default options).
        beside: stages that it needs in its pipeline and does not name in `reads`, such as the
            query whose answers a clipper learns from.

    Errors: `GrammarError` for an object that is no stage, `RegistryError` for an unknown name.
    """
    stage = _instance(stage)
    kind_of(stage)
    found = (c for c in all_checks() if c.applies(stage))
    return [dataclasses.replace(c, beside=tuple(beside)) for c in found]


def check_stage(stage: object, beside: Sequence[object] = ()) -> None:
    """Run every check that applies; `ConformanceError` at the first that fails.

    Args: as for `checks_for`.
    """
    stage = _instance(stage)
    for check in checks_for(stage, beside):
        check(stage)


def parametrize_with_checks(
    stages: Iterable[object], beside: Sequence[object] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A pytest decorator: one test for each stage and check, as arguments `stage` and `check`.

    A test that is marked as expected to fail, in any way, fails with that as the reason.

    Args: as for `checks_for`, for several stages.
    """
    import pytest

    cases = [
        pytest.param(stage, check, id=f"{name_of(stage)}-{check.name}")
        for stage in map(_instance, stages)
        for check in checks_for(stage, beside)
    ]

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(test)
        takes_request = "request" in signature.parameters

        @functools.wraps(test)
        def run(*args: Any, request: pytest.FixtureRequest, **kwargs: Any) -> None:
            _refuse_exemption(request)
            try:
                test(*args, **kwargs, **({"request": request} if takes_request else {}))
            except (pytest.xfail.Exception, pytest.skip.Exception) as exemption:
                raise _exempt(request, exemption) from None
            except Exception:
                _refuse_exemption(request)  # a mark that was added while the test ran
                raise

        if not takes_request:
            extra = inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY)
            signature = signature.replace(parameters=[*signature.parameters.values(), extra])
        run.__signature__ = signature  # type: ignore[attr-defined]  # what pytest reads
        marked: Callable[..., None] = pytest.mark.parametrize(("stage", "check"), cases)(run)
        return marked

    return decorate


def _instance(stage: object) -> Any:
    if isinstance(stage, str):
        return example_of(lookup(stage))
    if isinstance(stage, type) or hasattr(stage, "marks"):
        raise GrammarError(
            "give an instance of a stage or its registered name, without marks",
            where="conformance",
            got=stage,
        )
    return stage


def _refuse_exemption(request: Any) -> None:
    """Fail a test that carries an exemption, and see that pytest reports it as failed."""
    marks = [mark for name in EXEMPTIONS for mark in request.node.iter_markers(name)]
    if marks:
        option = request.config.option
        before, option.runxfail = option.runxfail, True
        request.addfinalizer(lambda: setattr(option, "runxfail", before))
        raise _exempt(request, marks[0]) from None


def _exempt(request: Any, how: object) -> GrammarError:
    return GrammarError(
        "a conformance check cannot be expected to fail, nor skipped",
        where=request.node.name,
        got=how,
        remedy="Remove the exemption and mend the stage.",
    )
