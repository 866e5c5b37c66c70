"""The command `dpaudit`, to which each file of this folder attaches its own."""

from __future__ import annotations

import click
from dpigu.cli.shared.errors import Commands


@click.group(cls=Commands)
@click.version_option(package_name="dpigu")
def main() -> None:
    """Does evidence contradict the claim that a model was trained with (ε, δ)-DP?

    Exit status: 0 not contradicted, 1 contradicted, 2 a mistake in the call or its input,
    3 the evidence supports no verdict, 70 a bug, 130 interrupted. No audit proves privacy.

    \b
    Example:
      dpigu train --preset adadpigu --data digits --canaries 500 --out runs/a
      dpaudit model runs/a
    """


main.by = {
    "Audit a run or a plan": ("model", "watch", "mechanism", "replay", "campaign"),
    "Audit a model trained elsewhere": ("plant", "planted", "scores", "foreign"),
    "Plan and compute": ("plan", "bound"),
    "Publish": ("card",),
}
