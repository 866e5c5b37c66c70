"""`dpigu train`: a private model, and the run folder that says what it cost."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from dpigu.cli.dpigu.group import main
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
from dpigu.cli.shared.output import print_fields, printable

from dpigu.names import (
    AVERAGING_NAMES,
    CANARY_NAMES,
    ENGINE_NAMES,
    OPTIMIZER_NAMES,
    SCHEDULE_NAMES,
)

if TYPE_CHECKING:
    from dpigu.audits.canaries.gradients import GradientCanaries
    from dpigu.audits.canaries.planting import CanaryPlan
    from dpigu.dpcore import Plan
    from dpigu.trainers import Data, Recipe, Run
    from dpigu.trainers.runs.folder import RunFolder

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
    """
    from dpigu.cli.shared.recipes import recipe_from

    show, where = not (as_json or quiet), Path(data_dir) if data_dir else None
    began = time.monotonic()
    if resume:
        folder = _resumed(out)
        out = folder.path
        go_on = partial(_go_on, folder, where, budget, trust_code=trust_code, show=show)
    else:
        _refuse_kind_alone(canaries)
        recipe = recipe_from(preset, config, options, trust_code=trust_code)
        if training_accuracy:
            from dpigu.mechanisms import training_accuracy as with_training_accuracy

            recipe = replace(recipe, plan=with_training_accuracy(recipe.plan))
        out = out if out is not None else _free_folder(recipe)
        go_on = partial(_start, recipe, out, where, canaries, canary_kind, budget, tuned, show=show)
    with crashes_reported(out / "private"):
        try:
            run = go_on()
        except KeyboardInterrupt as interrupt:
            if not (out / "public" / "config.toml").is_file():
                raise
            again = f"--out {out}" + (f" --data-dir {data_dir}" if data_dir else "")
            raise click.Abort(f"go on with: dpigu train --resume {again}") from interrupt
    if as_json:
        click.echo((out / "public" / "summary.json").read_text(), nl=False)
    else:
        _report(run, out, time.monotonic() - began)


def _start(
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
    from dpigu.trainers import build_model
    from dpigu.trainers import train as run_training

    data = recipe.load_data(data_dir, progress=show)
    public = recipe.load_public(data.spec, data_dir, progress=show)
    model = build_model(recipe.model_for(data.spec), data.spec, recipe.settings.seed)
    planned = _planned_canaries(data, canaries, canary_kind)
    data, observer = _planted(data, planned, recipe.plan)

    def before_training(folder: RunFolder) -> None:
        if planned is not None:
            planned.save(folder)
        if observer is not None:
            observer.begin(folder)
        if show:
            click.echo(printable(_plan_line(recipe, _calibrated(folder))))

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
        progress=show,
    )


def _go_on(
    folder: RunFolder,
    data_dir: Path | None,
    budget: Path | None,
    *,
    trust_code: bool,
    show: bool,
) -> Run:
    """The run in a folder, with the canaries that it began with."""
    from dpigu.trainers import recipe_from_file
    from dpigu.trainers import resume as resume_training
    from dpigu.trainers.runs.load import refuse_code

    recipe = recipe_from_file(folder.public / "config.toml")
    if show:
        click.echo(printable(_plan_line(recipe, recipe.plan)))
    refuse_code(folder, "data", recipe.data, trust_code)
    data = recipe.load_data(data_dir, progress=show)
    data, observer = _with_planned_canaries(data, folder, recipe.plan)
    return resume_training(
        folder.path,
        data=data,
        observer=observer,
        data_dir=data_dir,
        budget=budget,
        trust_code=trust_code,
        progress=show,
    )


def _resumed(out: Path | None) -> RunFolder:
    """The folder to go on in, if no option stands beside --resume that would change the run."""
    from dpigu.trainers.runs.folder import RunFolder

    ctx = click.get_current_context()
    for parameter in ctx.command.params:
        name = parameter.name or ""
        given = ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
        if given and name not in RESUMABLE:
            raise click.UsageError(
                f"{parameter.opts[0]} cannot stand beside --resume: the run goes on as it was "
                "configured."
            )
    if out is None:
        raise click.UsageError("--resume needs --out: the run to go on with.")
    return RunFolder.existing(out)


def _refuse_kind_alone(canaries: int | None) -> None:
    given = click.get_current_context().get_parameter_source("canary_kind")
    if canaries is None and given is not ParameterSource.DEFAULT:
        raise click.UsageError("--canary-kind needs --canaries: how many of them.")


def _planned_canaries(data: Data, count: int | None, kind: str) -> CanaryPlan | None:
    """A plan of canaries with fresh coins, if any are wanted."""
    if count is None:
        return None
    from dpigu.audits.canaries.planting import plan_canaries

    return plan_canaries(data, count, kind)


def _planted(
    data: Data, planned: CanaryPlan | None, plan: Plan
) -> tuple[Data, GradientCanaries | None]:
    """The data with canaries planted, and what plants those that are no data."""
    if planned is None:
        return data, None
    from dpigu.audits.canaries.gradients import GradientCanaries

    return planned.apply(data), GradientCanaries(planned, plan) if planned.white_box else None


def _with_planned_canaries(
    data: Data, folder: RunFolder, plan: Plan
) -> tuple[Data, GradientCanaries | None]:
    """The data as the run saw it before: with the canaries of its plan, if it has one."""
    from dpigu.audits.canaries.planting import COMMITMENT, PLAN, load_plan

    there = (folder.private / PLAN).exists() or (folder.public / COMMITMENT).exists()
    data, observer = _planted(data, load_plan(folder) if there else None, plan)
    if observer is not None:
        observer.begin(folder)
    return data, observer


def _free_folder(recipe: Recipe) -> Path:
    """runs/<preset>-<data>-<n>, for the first n that is free."""
    name = f"{recipe.preset}-{Path(recipe.data).stem}"
    n = 1
    while (folder := Path("runs") / f"{name}-{n}").exists():
        n += 1
    return folder


def _calibrated(folder: RunFolder) -> Plan:
    from dpigu.trainers import recipe_from_file

    return recipe_from_file(folder.public / "config.toml").plan


def _plan_line(recipe: Recipe, plan: Plan) -> str:
    """Phases, σ and the target, in one line."""
    settings = recipe.settings
    phases = ", then ".join(f"{phase.name} {phase.steps} steps" for phase in plan.phases)
    if not plan.private:
        return f"plan       {phases}; no noise: NOT PRIVATE"
    sigmas = dict.fromkeys(f"{p.pipeline.noiser.noise_multiplier:.5g}" for p in plan.phases)
    line = f"plan       {phases}; σ = {', '.join(sigmas)}"
    if looks := [
        phase.selective_update.pipeline.noiser
        for phase in plan.phases
        if phase.selective_update is not None
    ]:
        of_looks = dict.fromkeys(f"{noiser.noise_multiplier:.5g}" for noiser in looks)
        line += f", at every look {', '.join(of_looks)},"
    if settings.epsilon is not None:
        calibrated = settings.noise_multiplier is None
        line += f"{' calibrated to' if calibrated else ', within'} ε ≤ {settings.epsilon:g}"
    return f"{line} at δ = {settings.delta:g} ({settings.accountant.upper()})"


def _report(run: Run, out: Path, seconds: float) -> None:
    """What the run reached, what it cost, and where everything lies."""
    from dpigu.audits.canaries.planting import PLAN

    summary = run.summary
    audited = (out / "private" / PLAN).is_file()
    print_fields(
        [
            ("run", f"{summary['preset']} on {summary['data']}, model {summary['model']}"),
            *_reached(summary),
            *_measured(summary),
            *_privacy(summary),
            ("folder", str(out)),
            ("statement", str(out / "public" / "STATEMENT.txt")),
            ("picture", str(out / "public" / "run.png")),
            *([("audit", f"dpaudit model {out}")] if audited else []),
            ("time", f"{seconds:.0f} s"),
        ]
    )


def _reached(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The task's metrics and the user's."""
    from dpigu.trainers.tasks.metrics import titled, told

    values = {name: told(name, summary[f"test_{name}"]) for name in summary["metrics"]}
    return [(titled(n), f"{v} of held-out records, at the last step") for n, v in values.items()]


def _measured(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What phases measured on training records, noised and charged."""
    return [
        (name, f"{told['estimate']:.2%}, {told['low']:.2%} to {told['high']:.2%}, noised")
        for name, told in summary["statistics"].items()
    ]


def _privacy(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    steps = f"{summary['steps']} steps"
    if summary["repeated_steps"]:
        steps += f", {summary['repeated_steps']} of them repeated or lost to an interruption,"
    steps += f" at rate {summary['rate']:.6g}"
    if summary["stopped_early"]:
        by = "at the budget" if summary["epsilon_is"] == "claim" else "by choice"
        steps += f", stopped {by} before the {summary['planned_steps']} planned"
    if not summary["private"]:
        return [("privacy", f"NOT PRIVATE: {summary['why_not_private']}"), ("steps", steps)]
    target = summary["target_epsilon"]
    claim = f"ε = {summary['epsilon']:.4f}" + (f" (target {target:g})" if target else "")
    if summary["epsilon_is"] != "claim":
        claim = (
            f"ε = {summary['claimed_epsilon']:.4f}, of which {summary['epsilon']:.4f} spent so far"
        )
    claim += f" at δ = {summary['delta']:g}, {summary['accountant'].upper()} accountant, "
    lines = [("privacy", f"{claim}{summary['adjacency']} adjacency")]
    if summary["accountant_note"]:
        lines.append(("note", summary["accountant_note"]))
    if summary["delta"] > 1 / summary["records"]:
        lines.append(("warning", f"δ is above one over the {summary['records']} records"))
    sigmas = dict.fromkeys(f"{phase['noise_multiplier']:.5g}" for phase in summary["phases"])
    lines.append(("noise", f"σ = {', '.join(sigmas)}, {steps}"))
    if looks := [
        phase["selective_update"] for phase in summary["phases"] if phase["selective_update"]
    ]:
        each = dict.fromkeys(
            f"σ = {selective_update['noise_multiplier']:.5g} at rate {selective_update['rate']:.6g}"
            for selective_update in looks
        )
        lines.append(("looks", f"one at every step, charged too: {', '.join(each)}"))
    return lines
