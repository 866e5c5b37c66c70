"""`dpigu stages`: what is registered, built in or from a plugin."""

from __future__ import annotations

import click
from dpigu.cli.dpigu.group import main
from dpigu.cli.shared.options import json_option
from dpigu.cli.shared.output import print_fields, print_json


@main.group(invoke_without_command=True)
@json_option("a list of {kind, name, distribution}")
@click.pass_context
def stages(ctx: click.Context, as_json: bool) -> None:
    """List every stage, built in or from a plugin.

    \b
    Example:
      dpigu stages
      dpigu stages show top-k
      dpigu stages check top-k
    """
    if ctx.invoked_subcommand is not None:
        return
    from dpigu.dpcore.registry.entries import entries

    found, broken = entries()
    if as_json:
        print_json(
            [{"kind": e.kind, "name": e.name, "distribution": e.distribution} for e in found]
        )
    else:
        print_fields([(e.kind, f"{e.name:<24}{e.distribution}") for e in found])
    for error in broken:
        click.echo(f"warning: {error}", err=True)
