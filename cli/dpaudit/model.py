"""`dpaudit model`: a run of this library, by its own canaries."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
from dpigu.cli.dpaudit.group import main
from dpigu.cli.dpaudit.next_steps import after_run
from dpigu.cli.dpaudit.reproduction import reproduction, status_of
from dpigu.cli.shared.errors import crashes_reported
from dpigu.cli.shared.options import (
    NOT_NEGATIVE,
    data_dir_option,
    json_option,
    require_power_option,
    trust_code_option,
    worker_count,
)
from dpigu.cli.shared.output import print_json
from dpigu.cli.shared.screen import show_report

if TYPE_CHECKING:
    from dpigu.audits import ModelAudit
    from dpigu.audits.workers import Workers


@main.command()
@click.argument("run_folder", type=click.Path(path_type=Path))
@click.option(
    "--claim-epsilon", type=NOT_NEGATIVE, help="The claim to test, in place of the run's own ε."
)
@data_dir_option
@click.option(
    "--shadows",
    type=click.IntRange(min=0),
    help="Also estimate how far training records are told from held-out ones, by so many shadow "
    "models: even, 4 or more, 16 are usual; 0 for the loss alone.",
)
@click.option(
    "--workers",
    type=worker_count,
    metavar="N|ray",
    help="Processes that train shadow models, or `ray`: a cluster. Default: the cores here.",
)
@trust_code_option
@require_power_option
@json_option("the report")
@click.pass_context
def model(
    ctx: click.Context,
    run_folder: Path,
    claim_epsilon: float | None,
    data_dir: str | None,
    shadows: int | None,
    workers: Workers | None,
    trust_code: bool,
    require_power: bool,
    as_json: bool,
) -> None:
    """Audit a run that was trained with canaries, in one run, by its own coins.

    With --shadows, membership inference (loss, LiRA, RMIA) on the run's own records stands beside
    the verdict. It never changes it, and needs no canaries. Shadow models are cached: an
    interrupted call continues where it stopped.

    The report (report.html, report.json) goes to the run's private/ folder: it is about real
    records.

    \b
    Examples:
      dpaudit model runs/a
      dpaudit model runs/a --claim-epsilon 0.1 --json
      dpaudit model runs/a --shadows 16
    """
    from dpigu.audits import audit_model

    place = Path(data_dir) if data_dir else None
    if shadows is None and workers is not None:
        raise click.UsageError("--workers needs --shadows: how many of them.", ctx)
    with crashes_reported(run_folder / "private"):
        audit = audit_model(
            run_folder,
            data_dir=place,
            claim_epsilon=claim_epsilon,
            trust_code=trust_code,
            reproduce=reproduction(),
            steps_of=after_run(run_folder, claim_epsilon, place, trust_code),
        )
        if shadows is not None:
            audit = _beside(audit, shadows, workers, place, trust_code, progress=not as_json)
    if as_json:
        print_json(audit.to_json())
    else:
        show_report(audit.to_json(), audit.page_path)
    ctx.exit(status_of(audit.report, require_power))


def _beside(
    audit: ModelAudit,
    shadows: int,
    workers: Workers | None,
    data_dir: Path | None,
    trust_code: bool,
    *,
    progress: bool,
) -> ModelAudit:
    """The audit with membership inference beside its verdict, unless that names what is damaged."""
    from dpigu.audits import EvidenceError, estimate_membership

    try:
        found = estimate_membership(
            audit.run,
            shadows,
            workers=workers if workers is not None else len(os.sched_getaffinity(0)),
            data_dir=data_dir,
            trust_code=trust_code,
            progress=progress,
        )
    except EvidenceError:
        if audit.combined is not None:
            raise
        return audit  # INVALID AUDIT for the very same reason
    except KeyboardInterrupt as interrupt:
        (again,) = reproduction()
        raise click.Abort(f"finished shadow models stay; continue with: {again}") from interrupt
    return audit.beside(found, reproduce=reproduction())
