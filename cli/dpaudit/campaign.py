"""`dpaudit campaign`: many trainings of one recipe, told apart by their final models."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from dpigu.audits.wording import down, p_text
from dpigu.cli.dpaudit.group import main
from dpigu.cli.dpaudit.reproduction import reproduction, status_of
from dpigu.cli.shared.options import (
    COUNT,
    NOT_NEGATIVE,
    POSITIVE,
    PROBABILITY,
    data_dir_option,
    json_option,
    plan_options,
    require_power_option,
    trust_code_option,
    worker_count,
)
from dpigu.cli.shared.output import print_fields, print_json
from dpigu.cli.shared.screen import show_verdict, wrapped

if TYPE_CHECKING:
    from dpigu.audits.campaign import Campaign, GradientTargets, Targets
    from dpigu.audits.workers import Workers
    from dpigu.trainers import Data


@main.command()
@click.option("--preset", metavar="NAME", help="A plan by name; `dpigu presets` lists them all.")
@click.option("--config", type=click.Path(path_type=Path), help="A TOML file in place of it.")
@plan_options
@click.option("--learning-rate", type=POSITIVE, help="Peak learning rate.")
@click.option("--momentum", type=NOT_NEGATIVE, help="Momentum of sgd.")
@click.option("--physical-batch", type=COUNT, help="Records in memory at once.")
@data_dir_option
@click.option("--trials", type=COUNT, default=200, show_default=True, help="Models to train.")
@click.option("--targets", "count", type=COUNT, default=1, show_default=True, help="In each model.")
@click.option(
    "--target-kind",
    "kind",
    type=click.Choice(("record", "gradient")),
    default="record",
    show_default=True,
    help="record: a crafted record, which the model tells; gradient: a crafted row in the batch, "
    "which the final weights tell.",
)
@click.option(
    "--use", "used", type=COUNT, help="Of the data's records only the first so many, declared."
)
@click.option(
    "--init",
    type=click.Choice(("worst-case", "plain")),
    default="worst-case",
    show_default=True,
    help="worst-case: weights that fit the held-out records, so that targets stand out; "
    "plain: the model's own.",
)
@click.option("--claim-epsilon", type=NOT_NEGATIVE, help="The claim, in place of the recipe's ε.")
@click.option("--until-contradicted", is_flag=True, help="Stop at the first look that contradicts.")
@click.option(
    "--workers",
    type=worker_count,
    metavar="N|ray",
    help="Processes that train, or `ray`: a cluster. Default: the cores here.",
)
@click.option("--confidence", type=PROBABILITY, default=0.95, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder; private.")
@trust_code_option
@require_power_option
@json_option("the report")
@click.pass_context
def campaign(
    ctx: click.Context,
    /,
    preset: str | None,
    config: Path | None,
    data_dir: str | None,
    trials: int,
    count: int,
    kind: str,
    used: int | None,
    init: str,
    claim_epsilon: float | None,
    until_contradicted: bool,
    workers: Workers | None,
    confidence: float,
    out: Path,
    trust_code: bool,
    require_power: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a recipe many times, crafted targets in or out by coins; tell by final models alone.

    The answer is valid after any number of trials: the same command with more --trials goes on,
    and an interrupted one continues where it stopped. Each training spends privacy by itself, so
    the folder is as private as the data.

    \b
    Examples:
      dpaudit campaign --preset dpsgd --data digits --use 1000 --model linear --epsilon 10 \\
        --rate 1 --steps 2 --learning-rate 8 --momentum 0 --targets 50 --target-kind gradient \\
        --trials 200 --out campaigns/a
      dpaudit campaign --config runs/a/public/config.toml --trials 500 --out campaigns/b
    """
    from dpigu.audits.campaign import crafted_targets, gradient_targets, run_campaign
    from dpigu.cli.shared.recipes import recipe_from
    from dpigu.trainers import build_model

    recipe = recipe_from(preset, config, options, trust_code=trust_code)
    data = recipe.load_data(Path(data_dir) if data_dir else None, progress=not as_json)
    if used is not None:
        data = _first(data, used)
    model = build_model(recipe.model_for(data.spec), data.spec, recipe.settings.seed)
    worst = init == "worst-case"
    targets: Targets | GradientTargets
    if kind == "gradient":
        targets = gradient_targets(data, model, count=count, worst_case=worst)
    else:
        targets = crafted_targets(data, model, count=count, worst_case=worst)
    try:
        found = run_campaign(
            recipe,
            data,
            targets,
            out,
            trials=trials,
            workers=workers if workers is not None else len(os.sched_getaffinity(0)),
            confidence=confidence,
            claim_epsilon=claim_epsilon,
            until_contradicted=until_contradicted,
            progress=not as_json,
        )
    except KeyboardInterrupt as interrupt:
        (again,) = reproduction()
        raise click.Abort(f"finished trials stay; continue with: {again}") from interrupt
    if as_json:
        print_json(found.to_json())
    else:
        _show(found, out)
    ctx.exit(status_of(found.report, require_power))


def _first(data: Data, used: int) -> Data:
    """The first records, as a data set that declares no more."""
    from dpigu.trainers import Tensors

    spec = dataclasses.replace(data.spec, records=used)
    train = Tensors(data.train_x[:used], data.train_y[:used])
    return dataclasses.replace(data, spec=spec, train=train)


def _show(found: Campaign, out: Path) -> None:
    report, look = found.report, found.look
    more = reproduction(trials=report.advice.count, out=out) if report.advice else ()
    show_verdict(report.to_json() | {"next": more})
    assert report.p_value is not None and report.lower_bound is not None
    assert report.ceiling is not None
    sure = f"{look.sure_right} right, {look.sure_wrong} wrong beyond {look.beyond} deviations"
    fields = [
        ("trials", f"{look.trials} models; {look.right} of {look.guessed} coins guessed right"),
        ("p-value", f"{p_text(report.p_value)} at the claim, all tests together"),
        ("lower bound", f"ε ≥ {down(report.lower_bound)}, by sure guesses: {sure}"),
        ("ceiling", f"ε = {down(report.ceiling)}, had every trial been guessed, and rightly"),
        ("if Gaussian", f"ε ≥ {down(found.gaussian_epsilon)}: the curve of μ = {down(found.mu)}"),
        ("", "falls whatever the mechanism; ε is a bound where its curve is Gaussian"),
        ("counted", f"ε ≥ {down(found.clopper_pearson)} by Clopper-Pearson, if not stopped early"),
        ("fitted", f"μ = {found.fitted_mu:.3f}, ε = {found.fitted_epsilon:.3f}: no bound"),
        *wrapped("assumed", report.assumptions),
    ]
    print_fields(fields)
