"""`dpigu account group`: ε of a person with several records, where records were sampled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from dpigu.cli.dpigu.account.commands import account
from dpigu.cli.dpigu.account.mechanism import (
    require,
    sampler_of,
    sampling_options,
    steps_event,
)
from dpigu.cli.shared.options import COUNT, NOT_NEGATIVE, PROBABILITY, json_option
from dpigu.cli.shared.output import print_fields, print_json

if TYPE_CHECKING:
    from dp_accounting import DpEvent


@account.command()
@click.argument("run", metavar="[RUN_FOLDER]", required=False, type=click.Path(path_type=Path))
@click.option("--per-unit", type=COUNT, required=True, help="The most records that anybody has.")
@sampling_options
@click.option("--steps", type=COUNT, help="Number of steps T.")
@click.option("--noise-multiplier", type=NOT_NEGATIVE, help="σ, in units of the clipping norm.")
@click.option("--delta", type=PROBABILITY, help="δ  [default: the run's]")
@json_option("the answer")
def group(
    run: Path | None, per_unit: int, delta: float | None, as_json: bool, **mechanism: Any
) -> None:
    """ε for a person with at most K records, of a run that samples and clips single records.

    By the mixture of Gaussians of dp_accounting and PLD, for all that a run's ledger paid for, or
    for a mechanism. A run that protects units has its ε in `dpigu account ledger`.

    \b
    Examples:
      dpigu account group runs/low --per-unit 4
      dpigu account group --per-unit 4 --rate 0.01 --steps 500 --noise-multiplier 1 --delta 1e-5
    """
    from dpigu.accountants import group_epsilon
    from dpigu.accountants.base import rounded_up

    if run is not None:
        if given := [name for name, value in mechanism.items() if value is not None]:
            raise click.UsageError(f"The run says what '--{given[0].replace('_', '-')}' would.")
        event, of_run = _ledger_event(run)
        delta = of_run if delta is None else delta
    else:
        require({**mechanism, "delta": delta}, "steps", "noise_multiplier", "delta")
        event = steps_event(
            sampler_of(mechanism), mechanism["noise_multiplier"], mechanism["steps"]
        )
    assert delta is not None
    answer = group_epsilon(event, per_unit, delta)
    if as_json:
        told = {"epsilon": answer.value, "delta": delta, "records_per_unit": per_unit}
        print_json({**told, "accountant": answer.accountant, "note": answer.note})
        return
    text = f"no ε: {answer.note}" if answer.value is None else f"ε = {rounded_up(answer.value)}"
    print_fields([("a person", f"{text} at δ = {delta:g}, with at most {per_unit} records")])
    click.echo("by PLD, under adding or removing all records of one person")


def _ledger_event(run: Path) -> tuple[DpEvent, float]:
    """What a run paid for, and its δ.

    Errors: `AccountingError` for a run whose unit is not one record, another adjacency, or noise
    that is correlated across steps.
    """
    from dpigu.dpcore import AccountingError, Adjacency
    from dpigu.dpcore.claim import read_ledger
    from dpigu.dpcore.unit import RECORD, called
    from dpigu.trainers.runs import LEDGER, disk

    path = run if run.is_file() else run / "public" / LEDGER
    read = read_ledger(disk.read(path), str(path))
    unit, relation = called(read.head.unit), read.head.adjacency
    if unit != RECORD or relation is not Adjacency.ADD_OR_REMOVE_ONE:
        raise AccountingError(
            "group bounds are of a run that protects single records, added or removed",
            where=str(run),
            got=f"{unit}, {relation}",
            expected=f"{RECORD}, {Adjacency.ADD_OR_REMOVE_ONE}",
            remedy="Ask `dpigu account ledger`: its ε is the unit's already."
            if unit != RECORD
            else "",
        )
    if any(mechanism.period > 1 for mechanism in read.head.mechanisms):
        raise AccountingError(
            "group bounds are of steps with independent noise",
            where=str(run),
            got="a factorisation, where several records of one person take turns",
            remedy="Promise privacy by person from the start: a unit column.",
        )
    return read.event, read.head.delta
