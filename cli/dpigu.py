"""`dpigu`: train, account, describe, and list presets and stages."""

from __future__ import annotations

import click

from cli.account import account
from cli.describe import describe
from cli.errors import Commands
from cli.presets import presets
from cli.stages import stages
from cli.train import train


@click.group(cls=Commands)
@click.version_option(package_name="dpigu")
def main() -> None:
    """Differentially private training from composable, property-tested stages.

    \b
    Example:
      dpigu train --preset adadpigu --data digits --epsilon 4 --delta 1e-5
    """


main.add_command(train)
main.add_command(account)
main.add_command(presets)
main.add_command(stages)
main.add_command(describe)
