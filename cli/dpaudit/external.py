"""`dpaudit scores` and `dpaudit foreign`: evidence that was not made here."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from dpigu.cli.shared.options import (
    NOT_NEGATIVE,
    PROBABILITY,
    Command,
    Number,
    json_option,
    together,
)
from dpigu.cli.shared.output import print_json
from dpigu.cli.shared.screen import show_report

if TYPE_CHECKING:
    from dpigu.audits import ScoresAudit

_FILE = click.Path(path_type=Path)


def _must_be_said(ctx: click.Context, parameter: click.Parameter, value: bool) -> bool:
    if ctx.get_parameter_source(parameter.name or "") is ParameterSource.DEFAULT:
        raise click.UsageError(
            "say --coins if independent fair coins decided who was in, else --no-coins.", ctx
        )
    return value


claim_options: Callable[[Command], Command] = together(
    click.option("--claim-epsilon", type=NOT_NEGATIVE, required=True, help="ε of the claim."),
    click.option(
        "--delta",
        type=Number(min=0, max=1, max_open=True),
        required=True,
        help="δ of the claim.",
    ),
    click.option(
        "--coins/--no-coins",
        "coins",
        callback=_must_be_said,
        help="Whether independent fair coins decided who was in; one of both must be said.",
    ),
    click.option(
        "--confidence", type=PROBABILITY, default=0.95, show_default=True, help="Of the verdict."
    ),
    click.option("--out", type=_FILE, help="A folder for report.html and report.json."),
    json_option("the report"),
)


@click.command()
@click.argument("file", type=_FILE)
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
    as_json = claim.pop("as_json")
    audit = audit_scores(
        values, members, coins=coins, subject=str(file), reproduce=_again(), **claim
    )
    _finish(ctx, audit, out, as_json)


@click.command()
@click.option("--model", required=True, metavar="MODULE:FACTORY", help="Builds the model.")
@click.option("--weights", type=_FILE, required=True, help="A safetensors file.")
@click.option("--members", type=_FILE, required=True, help=".npz with x, y: what trained.")
@click.option("--non-members", type=_FILE, required=True, help=".npz with x, y: what did not.")
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
    as_json = claim.pop("as_json")
    audit = audit_scores(
        values,
        who,
        coins=coins,
        command="foreign",
        subject=str(weights),
        facts=(("model", model), ("score", "margin of the label")),
        reproduce=_again(),
        **claim,
    )
    _finish(ctx, audit, out, as_json)


def _finish(ctx: click.Context, audit: ScoresAudit, out: Path | None, as_json: bool) -> None:
    """Write the report where it is wanted, show it, and end with the verdict's status."""
    from dpigu.audits import write_report

    if out is not None:
        _folder(out)
        write_report(out, audit.data)
    if as_json:
        print_json(audit.data)
    else:
        show_report(audit.data, out / "report.html" if out is not None else None)
    ctx.exit(audit.report.exit_status)


def _folder(out: Path) -> None:
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"--out {out}: {error.strerror}.") from error


def _again() -> tuple[str, ...]:
    """The command line as it was given."""
    ctx = click.get_current_context()
    return (shlex.join(["dpaudit", *_words(ctx.params, ctx.command)]),)


def _words(values: Mapping[str, Any], command: click.Command) -> list[str]:
    words = [command.name or ""]
    for parameter in command.params:
        value = values.get(parameter.name or "")
        if isinstance(parameter, click.Argument):
            words.append(str(value))
        elif isinstance(value, bool) and isinstance(parameter, click.Option):
            if parameter.secondary_opts:
                words.append(parameter.opts[0] if value else parameter.secondary_opts[0])
        elif value is not None and parameter.name not in ("out", "help"):
            words += [parameter.opts[0], str(value)]
    return words
