"""The command `dpigu`, to which each file of this folder attaches its own."""

from __future__ import annotations

import click
from dpigu.cli.shared.errors import Commands


@click.group(cls=Commands)
@click.version_option(package_name="dpigu")
def main() -> None:
    """Differentially private training from composable, property-tested stages.

    \b
    Example:
      dpigu train --preset adadpigu --data digits --epsilon 4 --delta 1e-5
    """


main.by = {
    "Train": ("train", "describe", "fix"),
    "Read a run": ("explain", "compare"),
    "Account": ("account", "budget"),
    "Parts and plugins": ("presets", "stages", "plugin"),
}
