"""`dpaudit scores`: scores and membership from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from dpigu.cli.dpaudit.elsewhere.external import (
    FILE,
    claim_options,
    coins_option,
    finish,
    signal_option,
)
from dpigu.cli.dpaudit.group import main
from dpigu.cli.dpaudit.next_steps import elsewhere
from dpigu.cli.dpaudit.reproduction import reproduction


@main.command()
@click.argument("file", type=FILE)
@claim_options
@coins_option
@signal_option
@click.pass_context
def scores(
    ctx: click.Context,
    /,
    file: Path,
    coins: bool,
    signal: str | None,
    out: Path | None,
    **claim: Any,
) -> None:
    """Audit scores and membership from a file: .csv, .parquet or .npz.

    Columns (arrays in an .npz): member, 1 or 0; and score, a number, higher for "was in training",
    or a model's predictions in its place: probability, of the record's own label; prediction and
    target; log_probabilities of its tokens, a row a record (.npz). A column reference, the same by
    a model that saw none of the records, is taken off.

    One row for each coin that was flipped. Without coins the verdict is INVALID AUDIT, and AUC and
    TPR are estimates. Where the non-members are made up, a column baseline, the scores of a
    classifier that never saw the model, lets the report say what the model tells beyond it.

    \b
    Examples:
      dpaudit scores scores.csv --claim-epsilon 4 --delta 1e-5 --coins
      dpaudit scores scores.npz --claim-epsilon 4 --delta 1e-5 --no-coins --out report
    """
    from dpigu.audits import audit_scores, read_scores

    values, members, baseline = read_scores(file, signal)
    options = {name: claim.pop(name) for name in ("as_json", "require_power")}
    audit = audit_scores(
        values,
        members,
        coins=coins,
        baseline=baseline,
        subject=str(file),
        reproduce=reproduction(),
        steps_of=elsewhere(claim["claim_epsilon"], claim["delta"], claim["confidence"]),
        **claim,
    )
    finish(ctx, audit, out, options)
