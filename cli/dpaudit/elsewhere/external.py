"""What `dpaudit scores`, `planted` and `foreign` share: the claim, the report and its command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource
from dpigu.cli.dpaudit.reproduction import status_of
from dpigu.cli.shared.options import (
    NOT_NEGATIVE,
    PROBABILITY,
    Command,
    delta_option,
    json_option,
    require_power_option,
    together,
)
from dpigu.cli.shared.output import print_json
from dpigu.cli.shared.screen import show_report

if TYPE_CHECKING:
    from dpigu.audits import ScoresAudit

FILE = click.Path(path_type=Path)
SIGNAL_NAMES = ("score", "probability", "squared-error", "log-likelihood", "min-k")


def _must_be_said(ctx: click.Context, parameter: click.Parameter, value: bool) -> bool:
    if ctx.get_parameter_source(parameter.name or "") is ParameterSource.DEFAULT:
        raise click.UsageError(
            "say --coins if independent fair coins decided who was in, else --no-coins.", ctx
        )
    return value


claim_options: Callable[[Command], Command] = together(
    click.option("--claim-epsilon", type=NOT_NEGATIVE, required=True, help="ε of the claim."),
    delta_option,
    click.option(
        "--confidence", type=PROBABILITY, default=0.95, show_default=True, help="Of the verdict."
    ),
    click.option("--out", type=FILE, help="A folder for report.html and report.json."),
    require_power_option,
    json_option("the report"),
)

coins_option: Callable[[Command], Command] = click.option(
    "--coins/--no-coins",
    "coins",
    callback=_must_be_said,
    help="Whether independent fair coins decided who was in; one of both must be said.",
)
signal_option: Callable[[Command], Command] = click.option(
    "--signal",
    type=click.Choice(SIGNAL_NAMES),
    help="What is made of the columns. Default: the first that they make.",
)


def finish(
    ctx: click.Context, audit: ScoresAudit, out: Path | None, options: Mapping[str, bool]
) -> None:
    """Write the report where it is wanted, show it, and end with the verdict's status."""
    from dpigu.audits import write_report

    if out is not None:
        _folder(out)
        write_report(out, audit.data)
    if options["as_json"]:
        print_json(audit.data)
    else:
        show_report(audit.data, out / "report.html" if out is not None else None)
    ctx.exit(status_of(audit.report, options["require_power"]))


def _folder(out: Path) -> None:
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"--out {out}: {error.strerror}.") from error
