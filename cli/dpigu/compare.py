"""`dpigu compare`: several runs in one picture and one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from dpigu.cli.dpigu.group import main
from dpigu.cli.shared.options import json_option
from dpigu.cli.shared.output import print_json, printable

if TYPE_CHECKING:
    from dpigu.trainers.runs.picture import Curves

COLUMNS = ("run", "preset", "data", "ε", "δ", "σ", "steps", "batch")


@main.command()
@click.argument(
    "runs", metavar="RUN_FOLDER...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The picture  [default: comparison.png beside the first run]",
)
@json_option("the table")
def compare(runs: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Draw several runs and print what each reached and cost.

    Runs that were trained on the same records cost more together than each by itself, and the
    best of them was chosen by looking: neither is in the ε of one run.

    \b
    Example:
      dpigu compare runs/low runs/high --out both.png
    """
    from dpigu.trainers.runs import RunFolder, disk
    from dpigu.trainers.runs.picture import Curves, compared

    found = []
    for name, path in zip(_names(runs), runs, strict=True):
        folder = RunFolder.existing(path)
        found.append(Curves(name, folder.metrics(), folder.summary()))
    out = out if out is not None else runs[0].resolve().parent / "comparison.png"
    disk.write_whole(out, compared(found))
    if as_json:
        print_json([dict(zip(_head(found), row, strict=True)) for row in _rows(found)])
        return
    rows = [_head(found), *_rows(found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(printable("  ".join(cells).rstrip()))
    click.echo(f"picture: {out}")
    if len({curves.summary["data"] for curves in found}) < len(found):
        click.echo(
            "Runs on the same records cost more together than any ε above; `dpigu budget` keeps "
            "them within one."
        )


def _names(runs: tuple[Path, ...]) -> list[str]:
    """The folders' names, or their paths where two have one name."""
    names = [run.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run) for run in runs]


def _head(runs: list[Curves]) -> list[str]:
    from dpigu.trainers.tasks.metrics import titled

    return [*COLUMNS, *(titled(name) for name in _measured(runs))]


def _measured(runs: list[Curves]) -> list[str]:
    """The metrics of any of the runs."""
    return list(dict.fromkeys(name for run in runs for name in run.summary["metrics"]))


def _rows(runs: list[Curves]) -> list[list[str]]:
    return [_row(run.name, run.summary, _measured(runs)) for run in runs]


def _row(name: str, summary: Any, measured: list[str]) -> list[str]:
    from dpigu.accountants.base import rounded_up
    from dpigu.trainers.tasks.metrics import told

    private = summary["private"]
    claim = rounded_up(summary["claimed_epsilon"], 3) if private else "not private"
    sigmas = dict.fromkeys(f"{phase['noise_multiplier']:#.3g}" for phase in summary["phases"])
    values = [summary.get(f"test_{metric}") for metric in measured]
    return [
        *(name, summary["preset"], summary["data"], claim, f"{summary['delta']:g}"),
        *(", ".join(sigmas), str(summary["steps"]), f"{summary['expected_batch']:g}"),
        *(
            "" if value is None else told(metric, value)
            for metric, value in zip(measured, values, strict=True)
        ),
    ]
