"""`dpaudit foreign`: a model that was trained elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from dpigu.cli.dpaudit.external import FILE, claim_options, finish
from dpigu.cli.dpaudit.group import main
from dpigu.cli.dpaudit.reproduction import reproduction


@main.command()
@click.option("--model", required=True, metavar="MODULE:FACTORY", help="Builds the model.")
@click.option("--weights", type=FILE, required=True, help="A safetensors file.")
@click.option("--members", type=FILE, required=True, help=".npz with x, y: what trained.")
@click.option("--non-members", type=FILE, required=True, help=".npz with x, y: what did not.")
@click.option("--classes", type=click.IntRange(min=2), help="Default: from the labels.")
@claim_options
@click.pass_context
def foreign(
    ctx: click.Context,
    /,
    model: str,
    weights: Path,
    members: Path,
    non_members: Path,
    classes: int | None,
    coins: bool,
    out: Path | None,
    **claim: Any,
) -> None:
    """Audit a model that was trained elsewhere, by the margin of each record's label.

    Weights come from safetensors, records from .npz; nothing is ever unpickled. The factory is
    imported, so it must be code that you trust.

    \b
    Example:
      dpaudit foreign --model mine:make --weights w.safetensors --members in.npz \\
        --non-members out.npz --claim-epsilon 4 --delta 1e-5 --coins
    """
    from dpigu.audits import audit_scores, foreign_scores

    values, who = foreign_scores(model, weights, members, non_members, classes)
    options = {name: claim.pop(name) for name in ("as_json", "require_power")}
    audit = audit_scores(
        values,
        who,
        coins=coins,
        command="foreign",
        subject=str(weights),
        facts=(("model", model), ("score", "margin of the label")),
        reproduce=reproduction(),
        **claim,
    )
    finish(ctx, audit, out, options)
