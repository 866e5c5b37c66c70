"""`dpaudit watch`: a run while it trains."""

from __future__ import annotations

from pathlib import Path

import click
from dpigu.audits.wording import p_text
from dpigu.cli.dpaudit.group import main
from dpigu.cli.shared.options import json_option
from dpigu.cli.shared.output import print_fields, print_json
from dpigu.cli.shared.screen import show_verdict


@main.command()
@click.argument("run_folder", type=click.Path(path_type=Path))
@json_option("what was found")
@click.pass_context
def watch(ctx: click.Context, run_folder: Path, as_json: bool) -> None:
    """Look at a run that is training with crafted gradients: does it hold what it claims so far?

    Valid after any step and for any number of looks, so that status 1 may stop the run.

    \b
    Example:
      dpigu train --preset dpsgd --data digits --canaries 500 --canary-kind gradient --out runs/a &
      dpaudit watch runs/a || kill %1
    """
    from dpigu.audits import watch_run

    found = watch_run(run_folder)
    if as_json:
        print_json(found.to_json())
    else:
        show_verdict(found.told())
        fields = [("steps", f"{found.steps} of {found.planned}")]
        if found.p_value is not None:
            fields.append(("p-value", f"{p_text(found.p_value)}, for as many looks as you like"))
        print_fields(fields)
    ctx.exit(found.exit_status)
