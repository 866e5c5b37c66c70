"""`dpigu presets`: the plans that have a name."""

from __future__ import annotations

import click
from dpigu.cli.dpigu.group import main
from dpigu.cli.shared.options import json_option
from dpigu.cli.shared.output import print_json


@main.command()
@json_option("a list of {name, summary, source, training}")
def presets(as_json: bool) -> None:
    """List every preset: what it does and where it comes from.

    \b
    Example:
      dpigu presets
      dpigu describe dpsur --data digits
      dpigu train --preset dpsur --data digits
    """
    from dpigu.mechanisms import PRESETS

    if as_json:
        print_json(
            [
                {
                    "name": preset.name,
                    "summary": preset.summary,
                    "source": preset.source,
                    "training": dict(preset.training),
                }
                for preset in PRESETS.values()
            ]
        )
        return
    width = max(map(len, PRESETS))
    for name, preset in PRESETS.items():
        click.echo(f"{name:<{width}}  {preset.summary}")
        if preset.source:
            click.echo(f"{'':<{width}}  {preset.source}")
