"""`dpaudit card`: a section for a model card."""

from __future__ import annotations

from pathlib import Path

import click
from dpigu.cli.dpaudit.group import main


@main.command()
@click.argument("run_folder", type=click.Path(path_type=Path))
def card(run_folder: Path) -> None:
    """Print a section for a model card: Markdown, with Hugging Face's metadata in front.

    It has the claim, the verdict of `dpaudit model`, its design and what it assumes. Numbers stand
    there only where the canaries were made up; others are about real records, and stay private.

    \b
    Example:
      dpaudit card runs/a > README.md
    """
    from dpigu.audits import card as card_of

    click.echo(card_of(run_folder), nl=False)
