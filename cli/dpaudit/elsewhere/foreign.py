"""`dpaudit foreign`: a model that was trained elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from dpigu.cli.dpaudit.elsewhere.external import FILE, claim_options, coins_option, finish
from dpigu.cli.dpaudit.group import main
from dpigu.cli.dpaudit.next_steps import elsewhere
from dpigu.cli.dpaudit.reproduction import reproduction


@main.command()
@click.option(
    "--model",
    required=True,
    metavar="MODULE:FACTORY|FILE.skops|huggingface:FOLDER",
    help="Builds the model; or a file of scikit-learn's; or a folder with a causal language model "
    "in safetensors.",
)
@click.option("--weights", type=FILE, help="A safetensors file, for a factory's model.")
@click.option("--members", type=FILE, required=True, help=".npz with x, y: what trained.")
@click.option("--non-members", type=FILE, required=True, help=".npz with x, y: what did not.")
@click.option(
    "--signal",
    type=click.Choice(("margin", "squared-error", "log-likelihood", "min-k")),
    default="margin",
    show_default=True,
    help="margin: of one label a record; squared-error: regression; log-likelihood, min-k: tokens.",
)
@click.option("--classes", type=click.IntRange(min=2), help="Default: from the labels.")
@claim_options
@coins_option
@click.pass_context
def foreign(
    ctx: click.Context,
    /,
    model: str,
    weights: Path | None,
    members: Path,
    non_members: Path,
    signal: str,
    classes: int | None,
    coins: bool,
    out: Path | None,
    **claim: Any,
) -> None:
    """Audit a model that was trained elsewhere, by a score of each record.

    Weights come from safetensors, records from .npz; nothing is ever unpickled. The factory is
    imported, so it must be code that you trust; a language model's folder and a .skops file run
    none, and a .skops model sees x as it stands in the files. These
    have x, or x.NAME for each of several inputs, and y: labels, numbers, or a label a token with
    -100 for none. Without y, x are tokens, each foretold from those before.

    \b
    Example:
      dpaudit foreign --model mine:make --weights w.safetensors --members in.npz \\
        --non-members out.npz --claim-epsilon 4 --delta 1e-5 --coins
    """
    from dpigu.audits import audit_scores, foreign_scores

    values, who = foreign_scores(model, weights, members, non_members, classes, signal)
    options = {name: claim.pop(name) for name in ("as_json", "require_power")}
    audit = audit_scores(
        values,
        who,
        coins=coins,
        command="foreign",
        subject=str(weights or model),
        facts=(("model", model), ("score", signal)),
        reproduce=reproduction(),
        steps_of=elsewhere(claim["claim_epsilon"], claim["delta"], claim["confidence"]),
        **claim,
    )
    finish(ctx, audit, out, options)
