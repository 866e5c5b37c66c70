"""`dpigu stages show`: what a stage does, and its options."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from typing import TYPE_CHECKING, Any

import click
from dpigu.cli.dpigu.stages.commands import stages
from dpigu.cli.shared.options import json_option
from dpigu.cli.shared.output import print_fields, print_json

if TYPE_CHECKING:
    from dpigu.dpcore import Entry


@stages.command()
@click.argument("name")
@json_option("the stage")
def show(name: str, as_json: bool) -> None:
    """Show a stage: what it does, its options with their defaults, who brought it.

    \b
    Example:
      dpigu stages show linear-unfreeze
    """
    from dpigu.dpcore.registry import lookup

    entry = lookup(name)
    options, doc = _options(entry), inspect.getdoc(entry.stage) or ""
    if as_json:
        print_json(
            {
                "kind": entry.kind,
                "name": entry.name,
                "distribution": entry.distribution,
                "class": f"{entry.stage.__module__}:{entry.stage.__qualname__}",
                "documentation": doc,
                "options": options,
            }
        )
        return
    click.echo(f"{entry.name}, a {entry.kind}, from {entry.distribution}\n")
    click.echo(f"{doc}\n")
    if not options:
        click.echo("It has no options.")
        return
    click.echo("Options:")
    print_fields([(f"  {o['name']}", _line(o)) for o in options])


def _options(entry: Entry) -> list[dict[str, Any]]:
    hints = typing.get_type_hints(entry.stage)
    found = []
    for field in dataclasses.fields(entry.stage):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        hint = hints[field.name]
        required = default is dataclasses.MISSING
        found.append(
            {
                "name": field.name,
                "type": hint.__name__ if isinstance(hint, type) else str(hint),
                "required": required,
                "default": None if required else default,
            }
        )
    return found


def _line(option: dict[str, Any]) -> str:
    return f"{option['type']}, " + (
        "required" if option["required"] else f"default {option['default']!r}"
    )
