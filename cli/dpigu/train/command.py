"""`dpigu train`: a private model, and the run folder that says what it cost."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from dpigu.cli.dpigu.group import main
from dpigu.cli.dpigu.train.canaries import planned_canaries, planted, with_planned_canaries
from dpigu.cli.dpigu.train.report import length_line, plan_lines, report
from dpigu.cli.shared.errors import crashes_reported
from dpigu.cli.shared.options import (
    COUNT,
    NOT_NEGATIVE,
    POSITIVE,
    data_dir_option,
    plan_options,
    together,
    trust_code_option,
)
from dpigu.cli.shared.output import printable

from dpigu.names import (
    AVERAGING_NAMES,
    CANARY_NAMES,
    ENGINE_NAMES,
    OPTIMIZER_NAMES,
    SCHEDULE_NAMES,
)

if TYPE_CHECKING:
    from dpigu.dpcore import Ranks
    from dpigu.trainers import Recipe, Run
    from dpigu.trainers.runs import RunFolder

RESUMABLE = ("resume", "out", "budget", "data_dir", "trust_code", "quiet", "as_json")
"""The options that may stand beside --resume."""


class _Rows(click.IntRange):
    """A number of rows, or auto."""

    name = "integer|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return "auto" if value == "auto" else super().convert(value, param, ctx)


_training_options = together(
    click.option("--learning-rate", type=POSITIVE, help="Peak learning rate."),
    click.option("--momentum", type=NOT_NEGATIVE, help="Momentum of sgd."),
    click.option("--optimizer", type=click.Choice(OPTIMIZER_NAMES)),
    click.option(
        "--schedule",
        type=click.Choice(SCHEDULE_NAMES),
        help="Of the learning rate.",
    ),
    click.option(
        "--warmup", type=NOT_NEGATIVE, help="Share of the steps over which that rises from 0."
    ),
    click.option(
        "--average",
        type=click.Choice(AVERAGING_NAMES),
        help="Of the weights of past steps: what is evaluated and kept.",
    ),
    click.option(
        "--engine",
        type=click.Choice(ENGINE_NAMES),
        help="How rows are formed; never what they are. One-by-one takes any model, slowly.",
    ),
    click.option("--physical-batch", type=_Rows(min=1), help="Records in memory at once."),
    click.option("--device", help="auto, cpu, cuda, …"),
    click.option("--workers", type=click.IntRange(min=0), help="Processes that read records."),
    click.option("--autocast/--no-autocast", default=None, help="Forward in bfloat16."),
    click.option(
        "--seed",
        type=click.IntRange(min=0),
        help="Of the initial weights only: noise and sampling take no seed.",
    ),
    click.option(
        "--diagnostics/--no-diagnostics",
        default=None,
        help="Also record training accuracy; the run is then not private.",
    ),
)


@main.command()
@click.option(
    "--preset",
    metavar="NAME",
    help="A plan by name, such as adadpigu, dpsgd or dpsgd-hf; `dpigu presets` lists them all.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="A TOML file in place of a preset, such as a run's public/config.toml; "
    "options given beside it override it, and its noise stays as it is unless ε or σ is given.",
)
@plan_options
@_training_options
@data_dir_option
@click.option(
    "--out", type=click.Path(path_type=Path), help="Run folder  [default: runs/PRESET-DATA-N]"
)
@click.option("--resume", is_flag=True, help="Go on with the run in --out, as it was configured.")
@click.option(
    "--training-accuracy",
    is_flag=True,
    help="Measure accuracy on training records too, noised and charged, in a last phase.",
)
@click.option(
    "--tuned", metavar="TEXT", help="How the settings were chosen; the statement quotes it."
)
@click.option("--canaries", type=COUNT, help="Plant so many coins for `dpaudit model`.")
@click.option(
    "--canary-kind",
    type=click.Choice(CANARY_NAMES),
    default=CANARY_NAMES[0],
    show_default=True,
    help="What a coin decides on; gradient: crafted rows, the strongest.",
)
@click.option(
    "--budget",
    type=click.Path(path_type=Path),
    help="The budget that all runs on these records share: dpigu budget create.",
)
@trust_code_option
@click.option("--json", "as_json", is_flag=True, help="Print only the summary, as JSON.")
@click.option("--quiet", is_flag=True, help="Show no plan and no progress.")
def train(
    preset: str | None,
    config: Path | None,
    data_dir: str | None,
    out: Path | None,
    resume: bool,
    canaries: int | None,
    canary_kind: str,
    budget: Path | None,
    training_accuracy: bool,
    tuned: str | None,
    as_json: bool,
    quiet: bool,
    trust_code: bool,
    **options: Any,
) -> None:
    """Train a model with differential privacy, by a preset or a configuration.

    \b
    Examples:
      dpigu train --preset adadpigu --data digits --epsilon 4 --delta 1e-5
      dpigu train --preset dpsgd --data mnist --set clipper.bound=0.3 --out runs/low
      dpigu train --preset dpsgd --data a.csv --test b.csv --target y --records 900 --classes 2
      dpigu train --config runs/low/public/config.toml --epochs 30
      dpigu train --resume --out runs/low
      dpigu train --preset dpsgd --data digits --budget digits.budget --accountant rdp
      torchrun --nproc-per-node 2 -m dpigu train --preset dpsgd --data digits
    """
    from dpigu.cli.shared.recipes import recipe_from
    from dpigu.trainers.distributed import check_same, here

    began, ranks, where = time.monotonic(), here(), Path(data_dir) if data_dir else None
    alike = {"--resume": resume, "--out": out is not None, "--canaries": canaries}
    alike |= {"--budget": budget is not None, "--trust-code": trust_code}
    check_same(ranks, "options", alike)  # they say what the ranks speak of before training
    first = ranks.rank == 0
    show = first and not (as_json or quiet)
    if resume:
        _refuse_beside_resume()
        if out is None:
            raise click.UsageError("--resume needs --out: the run to go on with.")
        go_on = partial(_go_on, ranks, out, where, budget, trust_code=trust_code, show=show)
    else:
        _refuse_kind_alone(canaries)
        recipe = recipe_from(preset, config, options, trust_code=trust_code)
        if training_accuracy:
            from dpigu.mechanisms import training_accuracy as with_training_accuracy

            recipe = replace(recipe, plan=with_training_accuracy(recipe.plan))
        out = out if out is not None else ranks.agreed(partial(_free_folder, recipe))
        go_on = partial(
            _start, ranks, recipe, out, where, canaries, canary_kind, budget, tuned, show=show
        )
    with crashes_reported(out / "private"):
        try:
            run = go_on()
        except KeyboardInterrupt as interrupt:
            if not (out / "public" / "config.toml").is_file():
                raise
            again = f"--out {out}" + (f" --data-dir {data_dir}" if data_dir else "")
            raise click.Abort(f"go on with: dpigu train --resume {again}") from interrupt
    if not first:
        return
    if as_json:
        click.echo((out / "public" / "summary.json").read_text(), nl=False)
    else:
        report(run, out, time.monotonic() - began)


def _start(
    ranks: Ranks,
    recipe: Recipe,
    out: Path,
    data_dir: Path | None,
    canaries: int | None,
    canary_kind: str,
    budget: Path | None,
    tuned: str | None,
    *,
    show: bool,
) -> Run:
    """A new run of a recipe, with canaries, if any are wanted."""
    from dpigu.cli.dpigu.train.announce import Announcement
    from dpigu.trainers import build_model, recipe_from_file
    from dpigu.trainers import train as run_training
    from dpigu.trainers.runs.folder import refuse_occupied

    ranks.agreed(partial(refuse_occupied, out))  # the others need not reach it
    data = recipe.load_data(data_dir, progress=show)
    public = recipe.load_public(data.spec, data_dir, progress=show)
    model = build_model(recipe.model_for(data.spec), data.spec, recipe.settings.seed)
    planned = planned_canaries(ranks, data, canaries, canary_kind)
    data, observer = planted(data, planned, recipe.plan)

    def before_training(folder: RunFolder) -> None:
        if planned is not None:
            planned.save(folder)
        if observer is not None:
            observer.begin(folder)
        if show:
            calibrated = recipe_from_file(folder.public / "config.toml").plan
            for line in plan_lines(recipe, calibrated):
                click.echo(printable(line))
            if not _given("config", "steps", "epochs"):
                click.echo(printable(length_line(recipe)))

    return run_training(
        recipe.plan,
        data,
        model,
        recipe.settings,
        out=out,
        observer=observer,
        labels=recipe.labels(data.spec) | ({} if tuned is None else {"tuned": tuned}),
        public=public,
        before_training=before_training,
        budget=budget,
        callbacks=[Announcement()] if show else [],
        progress=show,
    )


def _go_on(
    ranks: Ranks,
    out: Path,
    data_dir: Path | None,
    budget: Path | None,
    *,
    trust_code: bool,
    show: bool,
) -> Run:
    """The run in a folder, with the canaries that it began with."""
    from dpigu.cli.dpigu.train.announce import Announcement
    from dpigu.trainers import recipe_from_file
    from dpigu.trainers import resume as resume_training
    from dpigu.trainers.runs import RunFolder
    from dpigu.trainers.runs.load import refuse_code

    folder = RunFolder(out)

    def checked() -> Recipe:
        RunFolder.existing(out).check()
        return recipe_from_file(folder.public / "config.toml")

    recipe = ranks.agreed(checked)
    if show:
        for line in plan_lines(recipe, recipe.plan):
            click.echo(printable(line))
    refuse_code(folder, "data", recipe.data, trust_code)
    data = recipe.load_data(data_dir, progress=show)
    data, observer = with_planned_canaries(ranks, data, folder, recipe.plan)
    return resume_training(
        out,
        data=data,
        observer=observer,
        data_dir=data_dir,
        budget=budget,
        callbacks=[Announcement()] if show else [],
        trust_code=trust_code,
        progress=show,
    )


def _refuse_beside_resume() -> None:
    """A mistake if an option stands beside --resume that would change the run."""
    ctx = click.get_current_context()
    for parameter in ctx.command.params:
        name = parameter.name or ""
        given = ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
        if given and name not in RESUMABLE:
            raise click.UsageError(
                f"{parameter.opts[0]} cannot stand beside --resume: the run goes on as it was "
                "configured."
            )


def _given(*names: str) -> bool:
    """Whether the user gave any of these options."""
    return any(click.get_current_context().params.get(name) is not None for name in names)


def _refuse_kind_alone(canaries: int | None) -> None:
    given = click.get_current_context().get_parameter_source("canary_kind")
    if canaries is None and given is not ParameterSource.DEFAULT:
        raise click.UsageError("--canary-kind needs --canaries: how many of them.")


def _free_folder(recipe: Recipe) -> Path:
    """runs/<preset>-<data>-<n>, for the first n that is free."""
    name = f"{recipe.preset}-{Path(recipe.data).stem}"
    n = 1
    while (folder := Path("runs") / f"{name}-{n}").exists():
        n += 1
    return folder
