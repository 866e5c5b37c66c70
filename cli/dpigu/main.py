"""`dpigu`: train, account, keep budgets, describe, and list presets and stages."""

from __future__ import annotations

import click
from dpigu.cli.dpigu.account import account
from dpigu.cli.dpigu.budget import budget
from dpigu.cli.dpigu.describe import describe
from dpigu.cli.dpigu.presets import presets
from dpigu.cli.dpigu.stages import stages
from dpigu.cli.dpigu.train import train
from dpigu.cli.shared.errors import Commands


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
main.add_command(budget)
main.add_command(presets)
main.add_command(stages)
main.add_command(describe)
