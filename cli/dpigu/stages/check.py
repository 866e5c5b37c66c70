"""`dpigu stages check`: the conformance suite on one stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from dpigu.cli.dpigu.stages.commands import stages
from dpigu.cli.shared.options import COUNT, json_option
from dpigu.cli.shared.output import print_json

if TYPE_CHECKING:
    from dpigu.audits import Check


@stages.command()
@click.argument("name")
@click.option("--set", "assignments", multiple=True, metavar="OPTION=VALUE", help="Repeatable.")
@click.option("--beside", multiple=True, metavar="NAME", help="A stage that it needs with it.")
@click.option(
    "--examples",
    type=COUNT,
    default=25,
    show_default=True,
    help="How much each check tries. Before a stage is published, try 100 or more.",
)
@json_option("every check and its outcome")
@click.pass_context
def check(
    ctx: click.Context,
    name: str,
    assignments: tuple[str, ...],
    beside: tuple[str, ...],
    examples: int,
    as_json: bool,
) -> None:
    """Run every conformance check that applies to a stage.

    A number that the stage asks for without a default is 1 unless --set gives it. What the stage
    names in its `reads` is found by itself; --beside adds what it needs otherwise. The exit
    status is 0 if all checks pass, 1 if one fails, 2 for a mistake in the arguments.

    \b
    Examples:
      dpigu stages check group-standardizer
      dpigu stages check linear-unfreeze --set ratio=0.2
      dpigu stages check top-k --examples 100
    """
    from dpigu.audits.conformance.check import described, example_of
    from dpigu.audits.conformance.suite import checks_for
    from dpigu.dpcore.registry import lookup, options_of

    ctx.with_resource(_trying(examples))
    entry = lookup(name)
    stage = example_of(entry, _assigned(assignments))
    checks = checks_for(stage, [example_of(lookup(other)) for other in beside])
    if not as_json:
        effort = f"{len(checks)} checks, up to {examples} examples each"
        click.echo(f"{described(stage)}, a {entry.kind}: {effort}")
    outcomes: list[dict[str, Any]] = []
    for one in checks:
        outcomes.append(_outcome(one, stage))
        if not as_json:
            click.echo(_told(outcomes))
    passed = all(outcome["passed"] for outcome in outcomes)
    if as_json:
        print_json(
            {
                "stage": name,
                "kind": entry.kind,
                "options": options_of(stage),
                "passed": passed,
                "examples": examples,
                "checks": outcomes,
            }
        )
    ctx.exit(0 if passed else 1)


@contextmanager
def _trying(examples: int) -> Iterator[None]:
    """So many examples a check from Hypothesis, which leaves nothing in the working folder.

    What it reads from the sources of modules, the constants in them, it keeps in the user's cache.
    """
    from hypothesis import settings
    from hypothesis.configuration import set_hypothesis_home_dir
    from platformdirs import user_cache_path

    before = settings.get_current_profile_name()
    settings.register_profile("stages-check", settings(), max_examples=examples)
    set_hypothesis_home_dir(user_cache_path("dpigu") / "hypothesis")
    settings.load_profile("stages-check")
    try:
        yield
    finally:
        settings.load_profile(before)
        set_hypothesis_home_dir(None)


def _outcome(check: Check, stage: Any) -> dict[str, Any]:
    """A check's name, what it guards, and how the stage fails it if it does."""
    from dpigu.audits.conformance.check import ConformanceError, shown

    outcome: dict[str, Any] = {"name": check.name, "guards": check.guards, "passed": True}
    try:
        check(stage)
    except ConformanceError as error:
        outcome |= {
            "passed": False,
            "problem": error.problem,
            "example": {key: shown(value) for key, value in error.example.items()},
            "got": None if error.got is None else shown(error.got),
            "expected": None if error.expected is None else shown(error.expected),
            "remedy": error.remedy,
            "message": error.detail,
        }
    return outcome


def _told(outcomes: list[dict[str, Any]]) -> str:
    """The last outcome in a line, with the counterexample when it fails for the first time so."""
    *before, last = outcomes
    if last["passed"]:
        return f"passed  {last['name']}"
    if any(outcome.get("problem") == last["problem"] for outcome in before):
        return f"FAILED  {last['name']}: as above"
    return f"FAILED  {last['name']}: {last['problem']}\n{last['message']}"


def _assigned(assignments: tuple[str, ...]) -> dict[str, Any]:
    """Options from `option=value`, the value in TOML or a bare string."""
    from dpigu.dpcore.registry import value_of

    options: dict[str, Any] = {}
    for assignment in assignments:
        option, equals, text = assignment.partition("=")
        if not equals:
            raise click.UsageError(f"--set {assignment} has not the form option=value.")
        options[option] = value_of(text)
    return options
