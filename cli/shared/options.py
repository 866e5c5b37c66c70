"""Options that several commands share: numbers, and the public choices that make a plan."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dpigu.names import ACCOUNTANT_NAMES, TASK_NAMES

if TYPE_CHECKING:
    from dpigu.audits.workers import Workers

Command = TypeVar("Command", bound=Callable[..., Any])


class Number(click.FloatRange):
    """A finite number in a range."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


POSITIVE = Number(min=0, min_open=True)
NOT_NEGATIVE = Number(min=0)
SHARE = Number(min=0, min_open=True, max=1)
PROBABILITY = Number(min=0, min_open=True, max=1, max_open=True)
COUNT = click.IntRange(min=1)


def worker_count(value: str) -> Workers:
    """A number of processes on this machine, or `ray`: the cluster that is there."""
    return "ray" if value == "ray" else int(COUNT(value))


def json_option(what: str) -> Callable[[Command], Command]:
    """--json."""
    return click.option("--json", "as_json", is_flag=True, help=f"Print {what} as JSON.")


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Options as one decorator, in the order in which `--help` shows them."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


delta_option = click.option(
    "--delta", type=Number(min=0, max=1, max_open=True), required=True, help="δ of the claim."
)
trust_code_option = click.option(
    "--trust-code",
    is_flag=True,
    help="Import a model or data that a run folder or a configuration names as MODULE:FACTORY.",
)
require_power_option = click.option(
    "--require-power",
    is_flag=True,
    help="End with status 3 where the audit could hardly have contradicted the claim.",
)
data_dir_option = click.option(
    "--data-dir", type=click.Path(), help="Where the data lies (or DPIGU_DATA)."
)

plan_options = together(
    click.option(
        "--data",
        metavar="NAME|FILE|MODULE:FACTORY",
        help="digits, mnist, fashion-mnist, cifar10; an .npz, .csv or .parquet; or your own.",
    ),
    click.option(
        "--records", type=COUNT, help="Declared number of records, or of units, for data of yours."
    ),
    click.option("--classes", type=COUNT, help="Declared number of classes, for a file."),
    click.option("--test", metavar="FILE", help="The held-out split, where it is another file."),
    click.option("--target", metavar="COLUMN", help="What is predicted, in a file."),
    click.option("--task", type=click.Choice(TASK_NAMES), help="Default: classification."),
    click.option(
        "--columns",
        "columns",
        metavar="FILE.toml",
        type=click.Path(path_type=Path),
        help="What is declared of a table's columns: a scaling, a list of categories, or drop.",
    ),
    click.option(
        "--unit",
        metavar="COLUMN",
        help="Protect whoever a record belongs to, by this column, and not single records; "
        "--records then declares how many there are.",
    ),
    click.option("--per-unit", type=COUNT, help="The most records of one that make its row."),
    click.option(
        "--unit-rows",
        type=click.Choice(["mean", "sum"]),
        help="Of their gradients  [default: mean]",
    ),
    click.option(
        "--common-inputs",
        is_flag=True,
        default=None,
        help="Your word that people in both splits with equal inputs are different people.",
    ),
    click.option(
        "--features",
        metavar="NAME",
        help="Fixed features before the model: scattering, even-scattering, "
        "deskewed-scattering, patches or layered-patches.",
    ),
    click.option(
        "--public-data",
        "public",
        metavar="NAME|FILE|MODULE:FACTORY",
        help="Records without protection, for the stages that learn from some: a data set, an "
        ".npz, a function of yours, or procedural (made up).",
    ),
    click.option("--model", metavar="NAME|MODULE:FACTORY", help="Default: the data's own."),
    click.option("--epsilon", type=POSITIVE, help="Target ε; calibrates the noise to it."),
    click.option("--delta", type=PROBABILITY, help="Target δ."),
    click.option(
        "--accountant",
        type=click.Choice(("auto", *ACCOUNTANT_NAMES)),
        help="Who states ε; auto, the default: rdp where the run is short, else prv.",
    ),
    click.option(
        "--noise-multiplier",
        type=NOT_NEGATIVE,
        help="σ, in place of calibrating; with --epsilon, training stops at the target.",
    ),
    click.option("--epochs", type=POSITIVE, help="Steps × expected batch / records."),
    click.option("--steps", type=COUNT, help="Steps of all phases together."),
    click.option("--batch", type=POSITIVE, help="Expected batch: rate × records."),
    click.option("--rate", type=SHARE, help="Sampling rate, in place of --batch."),
    click.option("--clip", type=POSITIVE, help="Clipping norm C."),
    click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="STAGE.OPTION=VALUE",
        help="Change an option of the plan, such as scheduler.ratio=0.4 or "
        "selective_update.decision.below=0.1; repeatable.",
    ),
)
