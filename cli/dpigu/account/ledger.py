"""`dpigu account ledger`: what a run has paid for, from its ledger and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from dpigu.cli.dpigu.account.commands import account
from dpigu.cli.shared.options import json_option
from dpigu.cli.shared.output import print_fields, print_json

if TYPE_CHECKING:
    from dpigu.dpcore import Ledger


@account.command()
@click.argument("run", metavar="RUN_FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--event",
    "event_file",
    type=click.Path(path_type=Path),
    help="Also write the event as JSON, from which dp_accounting alone computes ε.",
)
@json_option("the answer")
def ledger(run: Path, event_file: Path | None, as_json: bool) -> None:
    """ε of a run, computed from its ledger alone: every mechanism, and how often it was paid for.

    ε is a claim if the run ended where its plan or its budget ends. Before that, and after a
    stop by somebody who saw what was released, it is what was spent so far.

    \b
    Example:
      dpigu account ledger runs/low --event event.json
    """
    from dpigu.dpcore.claim import event_to_dict, read_ledger
    from dpigu.trainers.runs import LEDGER, checkpoint, disk

    path = run if run.is_file() else run / "public" / LEDGER
    read = read_ledger(disk.read(path), str(path))
    if (kept := path.with_name(checkpoint.FILE)).is_file():
        checkpoint.read(kept, read)  # it knows how far the ledger was
    about = _about(read)
    if event_file is not None:
        text = json.dumps(event_to_dict(read.event), indent=1) + "\n"
        disk.write_whole(event_file, text.encode())
    if as_json:
        print_json(about)
    else:
        print_fields(_fields(about))


def _about(read: Ledger) -> dict[str, Any]:
    from dpigu.trainers.calibration import claimed_epsilon, epsilon_of_ledger

    head = read.head
    spent = None if head.not_private else epsilon_of_ledger(read)
    return {
        "epsilon": None if spent is None else spent.value,
        "epsilon_is": "claim" if read.complete else "spent so far",
        "claimed_epsilon": None if head.not_private else claimed_epsilon(read),
        "delta": head.delta,
        "steps": read.steps,
        "accountant": head.accountant if spent is None else spent.accountant,
        "adjacency": str(head.adjacency),
        "records": head.records,
        "unit": None if head.unit is None else vars(head.unit),
        "why_not_private": head.not_private,
        "ended": read.ended,
        "mechanisms": [
            {**mechanism.to_dict(), "steps": steps}
            for mechanism, steps in zip(head.mechanisms, read.charged, strict=True)
        ],
    }


def _fields(about: dict[str, Any]) -> list[tuple[str, str]]:
    from dpigu.accountants.base import rounded_up

    at = f"at δ = {about['delta']:g}, {about['accountant'].upper()} accountant"
    if about["why_not_private"]:
        found = [("privacy", f"NOT PRIVATE: {about['why_not_private']}")]
    elif about["epsilon_is"] == "claim":
        found = [
            ("claim", f"ε = {rounded_up(about['epsilon'])} {at}, {about['adjacency']} adjacency")
        ]
    else:
        found = [
            (
                "spent so far",
                f"ε = {rounded_up(about['epsilon'])} {at}, {about['adjacency']} adjacency",
            ),
            ("claim", f"ε = {rounded_up(about['claimed_epsilon'])}, fixed before the first step"),
        ]
    if about["unit"] is not None:
        unit = "all records of one {name}, at most {records} of them a step"
        found.append(("unit", unit.format_map(about["unit"])))
    for mechanism in about["mechanisms"]:
        paid = f"{mechanism['steps']} of {mechanism['planned']} planned steps paid for"
        told = f"{paid}, σ = {mechanism['noise_multiplier']:.5g} at rate {mechanism['rate']:.6g}"
        if mechanism["period"] > 1:
            told += f", a turn in {mechanism.get('turns', mechanism['period'])} steps"
        if mechanism["look_rate"] is not None:
            told += f", and a look with σ = {mechanism['look_noise_multiplier']:.5g} at rate "
            told += f"{mechanism['look_rate']:.6g}"
        found.append((mechanism["name"], told))
    return found
