"""`dpigu explain`: what a run promised, to whom, and what it did not, in plain words."""

from __future__ import annotations

import textwrap
from pathlib import Path

import click
from dpigu.cli.dpigu.group import main
from dpigu.cli.shared.options import json_option
from dpigu.cli.shared.output import print_json

WIDTH = 88


@main.command()
@click.argument("run", metavar="RUN_FOLDER", type=click.Path(path_type=Path))
@json_option("the sentences by heading")
def explain(run: Path, as_json: bool) -> None:
    """Say in plain words what a run promised, to whom, how, and what it did not promise.

    \b
    Example:
      dpigu explain runs/low
    """
    from dpigu.trainers.runs import RunFolder
    from dpigu.trainers.runs.explanation import explanation

    parts = explanation(RunFolder.existing(run).summary())
    if as_json:
        print_json(parts)
        return
    for title, lines in parts.items():
        click.secho(title, bold=True)
        for line in lines:
            click.echo(textwrap.fill(line, WIDTH, initial_indent="- ", subsequent_indent="  "))
        click.echo()
    click.echo(f"To publish: {run / 'public'}, with STATEMENT.txt. To check: dpigu account ledger")
    click.echo(f"{run}. To attack, if canaries were planted: dpaudit model {run}.")
