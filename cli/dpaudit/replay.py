"""`dpaudit replay`: a recipe's run on neighbouring data with equal draws, compared bit for bit."""

from __future__ import annotations

import textwrap
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import click
from dpigu.cli.dpaudit.group import main
from dpigu.cli.shared.options import COUNT, json_option, trust_code_option
from dpigu.cli.shared.output import print_fields, print_json
from dpigu.cli.shared.screen import WIDTH, show_verdict
from dpigu.trainers.code import names_code

if TYPE_CHECKING:
    from dpigu.audits.replay import ReplayAudit
    from dpigu.trainers import Recipe

SHOWN = 8
"""How many of the things that differ are printed; the JSON has all."""


@main.command()
@click.argument("what", metavar="PRESET|CONFIG")
@click.option("--steps", type=COUNT, default=3, show_default=True, help="Of every phase.")
@trust_code_option
@json_option("the report")
@click.pass_context
def replay(ctx: click.Context, what: str, steps: int, trust_code: bool, as_json: bool) -> None:
    """Replay a run on neighbouring data: does anything but the noised sums know of a record?

    The trainer runs twice on made-up records with equal draws, the second time with one record
    less and with the first run's noised sums. All else that it publishes must then be equal, bit
    for bit: states, optimizer, checkpoints, metrics, summary. Takes a few seconds.

    \b
    Examples:
      dpaudit replay adadpigu
      dpaudit replay runs/a/public/config.toml --json
    """
    from dpigu.audits.replay import audit_replay, made_up_training

    recipe, shape = _recipe(what, trust_code)
    audit = audit_replay(*made_up_training(recipe, shape=shape, steps=steps))
    if as_json:
        print_json({"subject": what, **audit.to_json()})
    else:
        _show(audit)
    ctx.exit(audit.exit_status)


def _recipe(what: str, trust_code: bool) -> tuple[Recipe, tuple[int, ...] | None]:
    """The recipe, and the shape of a record where a configuration says it."""
    from dpigu.dpcore import ConfigurationError
    from dpigu.mechanisms import PRESETS
    from dpigu.trainers import recipe_for, recipe_from_file

    if what in PRESETS:
        return recipe_for(what, "digits", steps=8), None
    if not (what.endswith(".toml") or Path(what).is_file()):
        raise ConfigurationError(
            "there is no preset and no file of that name",
            where="PRESET|CONFIG",
            got=what,
            expected=f"{', '.join(PRESETS)} or a .toml file",
        )
    recipe = recipe_from_file(Path(what))
    if recipe.model is not None and names_code(recipe.model) and not trust_code:
        raise ConfigurationError(
            "the model is code that the configuration names, and that is not run without your word",
            where=what,
            got=recipe.model,
            remedy="If you trust whoever wrote it: --trust-code.",
        )
    shape = tomllib.loads(Path(what).read_text())["data"].get("shape")
    return recipe, None if shape is None else tuple(shape)


def _show(audit: ReplayAudit) -> None:
    """The report in a screenful, verdict first."""
    show_verdict(audit.told())
    fields = [
        ("releases", f"{audit.releases}, and the record was in {audit.touched} of them"),
        ("moved", f"{audit.furthest:.1%} of what one record may move a noised sum, at most"),
        ("compared", f"{audit.compared:,} published things, bit for bit"),
    ]
    told = [(leak.what, leak.detail) for leak in audit.leaks[:SHOWN]]
    fields += [("differs", f"{what}: {detail}") for what, detail in told]
    if more := len(audit.leaks) - len(told):
        fields.append(("", f"and {more:,} more, which --json names"))
    fields += [("assumed", line) for line in audit.assumptions]
    shown: list[tuple[str, str]] = []
    for name, value in fields:
        lines = textwrap.wrap(value, WIDTH - 12)
        shown += [(name if i == 0 else "", line) for i, line in enumerate(lines)]
    print_fields(shown)
