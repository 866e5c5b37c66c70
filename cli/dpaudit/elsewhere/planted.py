"""`dpaudit plant` and `dpaudit planted`: canaries for a model that is trained elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from dpigu.cli.dpaudit.elsewhere.external import FILE, claim_options, finish, signal_option
from dpigu.cli.dpaudit.group import main
from dpigu.cli.dpaudit.next_steps import elsewhere
from dpigu.cli.dpaudit.reproduction import reproduction
from dpigu.cli.shared.options import COUNT
from dpigu.cli.shared.output import print_fields


@main.command()
@click.argument("data", type=FILE)
@click.option("--canaries", type=COUNT, required=True, help="How many coins to flip.")
@click.option("--target", metavar="COLUMN", help="The labels' column, in a table.")
@click.option("--out", type=FILE, required=True, help="A new folder; private.")
def plant(data: Path, canaries: int, target: str | None, out: Path) -> None:
    """Write canaries into a data set by coins, for training with whatever you have.

    A table (.csv) gets records under a wrong label, a text (.txt, a record a line) made-up
    sentences with a random number. The folder then has the file to train on, the file of all
    canaries to score, the coins, which are private, and a commitment to them, to publish.

    \b
    Examples:
      dpaudit plant data.csv --target y --canaries 500 --out audit
      dpaudit planted audit scores.csv --claim-epsilon 1 --delta 1e-5
    """
    from dpigu.audits import plant as planted_in

    files = planted_in(data, canaries, out, target=target)
    print_fields(
        [
            ("train on", str(files.train)),
            ("score", f"{files.canaries}: all {files.count}, the ones left out too"),
            ("publish", str(out / "commitment.json")),
            ("then", f"dpaudit planted {out} SCORES --claim-epsilon E --delta D"),
        ]
    )


@main.command()
@click.argument("folder", type=FILE)
@click.argument("file", type=FILE)
@claim_options
@signal_option
@click.pass_context
def planted(
    ctx: click.Context, /, folder: Path, file: Path, out: Path | None, **claim: Any
) -> None:
    """Audit a model that was trained on a file of `dpaudit plant`, by the scores of its canaries.

    The file of scores has a column canary, the number of each, and the columns of a signal, as
    `dpaudit scores` reads them. Every canary needs one row, whether it was in or not.

    \b
    Example:
      dpaudit planted audit scores.csv --claim-epsilon 1 --delta 1e-5 --out report
    """
    from dpigu.audits import audit_planted

    options = {name: claim.pop(name) for name in ("as_json", "require_power")}
    text = (folder / "train.txt").is_file()
    steps_of = elsewhere(claim["claim_epsilon"], claim["delta"], claim["confidence"], text)
    audit = audit_planted(folder, file, reproduce=reproduction(), steps_of=steps_of, **claim)
    finish(ctx, audit, out, options)
