"""`dpaudit scores`: scores and membership from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from dpigu.cli.dpaudit.external import FILE, claim_options, finish
from dpigu.cli.dpaudit.group import main
from dpigu.cli.dpaudit.reproduction import reproduction


@main.command()
@click.argument("file", type=FILE)
@claim_options
@click.pass_context
def scores(ctx: click.Context, /, file: Path, coins: bool, out: Path | None, **claim: Any) -> None:
    """Audit scores and membership from a file: .csv, .parquet or .npz.

    Columns (arrays in an .npz): score, a number, higher for "was in training"; member, 1 or 0.
    One row for each coin that was flipped. Without coins the verdict is INVALID AUDIT, and AUC
    and TPR are estimates.

    \b
    Examples:
      dpaudit scores scores.csv --claim-epsilon 4 --delta 1e-5 --coins
      dpaudit scores scores.npz --claim-epsilon 4 --delta 1e-5 --no-coins --out report
    """
    from dpigu.audits import audit_scores, read_scores

    values, members = read_scores(file)
    options = {name: claim.pop(name) for name in ("as_json", "require_power")}
    audit = audit_scores(
        values, members, coins=coins, subject=str(file), reproduce=reproduction(), **claim
    )
    finish(ctx, audit, out, options)
