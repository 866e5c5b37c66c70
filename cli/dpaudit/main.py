"""`dpaudit`: does evidence contradict a privacy claim? And the calculators behind the answer."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
from dpigu.cli.dpaudit.external import foreign, scores
from dpigu.cli.dpaudit.mechanism import mechanism
from dpigu.cli.dpaudit.plan import power_plan
from dpigu.cli.shared.errors import Commands, crashes_reported
from dpigu.cli.shared.options import (
    COUNT,
    NOT_NEGATIVE,
    PROBABILITY,
    Number,
    data_dir_option,
    json_option,
    together,
)
from dpigu.cli.shared.output import print_json
from dpigu.cli.shared.screen import show_report

if TYPE_CHECKING:
    from dpigu.audits import ModelAudit

_SOME = click.IntRange(min=0)
_delta = click.option(
    "--delta", type=Number(min=0, max=1, max_open=True), required=True, help="δ of the claim."
)
_confidence = click.option(
    "--confidence", type=PROBABILITY, default=0.95, show_default=True, help="Of the bound."
)
_one_run = together(
    click.option("--canaries", type=_SOME, required=True, help="m, abstentions included."),
    click.option("--guesses", type=_SOME, required=True, help="r, fixed beforehand."),
    click.option("--correct", type=_SOME, required=True, help="v, the guesses that were right."),
    _delta,
    _confidence,
)


@click.group(cls=Commands)
@click.version_option(package_name="dpigu")
def main() -> None:
    """Does evidence contradict the claim that a model was trained with (ε, δ)-DP?

    Exit status: 0 not contradicted, 1 contradicted, 2 a mistake in the call or its input,
    3 the evidence supports no verdict, 70 a bug, 130 interrupted. No audit proves privacy.

    \b
    Example:
      dpigu train --preset adadpigu --data digits --canaries 500 --out runs/a
      dpaudit model runs/a
    """


@main.command()
@click.argument("run_folder", type=click.Path(path_type=Path))
@click.option(
    "--claim-epsilon", type=NOT_NEGATIVE, help="The claim to test, in place of the run's own ε."
)
@data_dir_option
@click.option(
    "--shadows",
    type=_SOME,
    help="Also estimate how far training records are told from held-out ones, by so many shadow "
    "models: even, 4 or more, 16 are usual; 0 for the loss alone.",
)
@click.option(
    "--workers", type=COUNT, help="Processes that train shadow models. Default: the cores here."
)
@json_option("the report")
@click.pass_context
def model(
    ctx: click.Context,
    run_folder: Path,
    claim_epsilon: float | None,
    data_dir: str | None,
    shadows: int | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Audit a run that was trained with canaries, in one run, by its own coins.

    With --shadows, membership inference (loss, LiRA, RMIA) on the run's own records stands beside
    the verdict. It never changes it, and needs no canaries. Shadow models are cached: an
    interrupted call goes on where it stopped.

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
        audit = audit_model(run_folder, data_dir=place, claim_epsilon=claim_epsilon)
        if shadows is not None:
            audit = _beside(audit, shadows, workers, place, progress=not as_json)
    if as_json:
        print_json(audit.to_json())
    else:
        show_report(audit.to_json(), audit.page_path)
    ctx.exit(audit.report.exit_status)


def _beside(
    audit: ModelAudit, shadows: int, workers: int | None, data_dir: Path | None, progress: bool
) -> ModelAudit:
    """The audit with membership inference beside its verdict, unless that names what is damaged."""
    from dpigu.audits import EvidenceError, estimate_membership

    try:
        found = estimate_membership(
            audit.run,
            shadows,
            workers=workers if workers is not None else len(os.sched_getaffinity(0)),
            data_dir=data_dir,
            progress=progress,
        )
    except EvidenceError:
        if audit.decision is not None:
            raise
        return audit  # INVALID AUDIT for the very same reason
    except KeyboardInterrupt as interrupt:
        again = f"dpaudit model {audit.run} --shadows {shadows}"
        raise click.Abort(f"finished shadow models stay; go on with: {again}") from interrupt
    return audit.beside(found)


main.add_command(scores)
main.add_command(foreign)
main.add_command(power_plan)


@main.group()
def bound() -> None:
    """Calculators: what counts show, whatever they came from. They always exit with 0."""


@bound.command("one-run")
@_one_run
@click.option("--claim-epsilon", type=NOT_NEGATIVE, help="Also give the p-value at this ε.")
@json_option("the bound")
def one_run(
    canaries: int,
    guesses: int,
    correct: int,
    delta: float,
    confidence: float,
    claim_epsilon: float | None,
    as_json: bool,
) -> None:
    """Lower bound on ε from m coins, r guesses and v of them right, in one run.

    Source: Steinke, Nasr and Jagielski 2023.

    \b
    Example:
      dpaudit bound one-run --canaries 1000 --guesses 100 --correct 95 --delta 1e-5
    """
    from dpigu.audits import one_run_epsilon, one_run_p_value

    answer = {"epsilon": one_run_epsilon(canaries, guesses, correct, delta, confidence)}
    if claim_epsilon is not None:
        answer["p_value"] = one_run_p_value(canaries, guesses, correct, claim_epsilon, delta)
    if as_json:
        print_json(answer)
        return
    click.echo(_bound_line(answer["epsilon"], delta, confidence))
    if claim_epsilon is not None:
        click.echo(f"p = {answer['p_value']:.6g} at ε = {claim_epsilon:g}")


@bound.command("clopper-pearson")
@click.option("--false-positives", type=_SOME, required=True, help="Non-members called members.")
@click.option("--non-members", type=_SOME, required=True, help="Models without the record.")
@click.option("--false-negatives", type=_SOME, required=True, help="Members called non-members.")
@click.option("--members", type=_SOME, required=True, help="Models with the record.")
@_delta
@_confidence
@json_option("the bound")
def clopper_pearson(
    false_positives: int,
    non_members: int,
    false_negatives: int,
    members: int,
    delta: float,
    confidence: float,
    as_json: bool,
) -> None:
    """Lower bound on ε from the errors of a test over models trained independently.

    The trials must be independent and the threshold fixed beforehand.

    \b
    Example:
      dpaudit bound clopper-pearson --false-positives 3 --non-members 500 \\
        --false-negatives 40 --members 500 --delta 1e-5
    """
    from dpigu.audits import clopper_pearson_epsilon

    epsilon = clopper_pearson_epsilon(
        false_positives, non_members, false_negatives, members, delta, confidence
    )
    if as_json:
        print_json({"epsilon": epsilon})
    else:
        click.echo(_bound_line(epsilon, delta, confidence))


@bound.command("f-dp")
@_one_run
@json_option("the estimate")
def f_dp(
    canaries: int, guesses: int, correct: int, delta: float, confidence: float, as_json: bool
) -> None:
    """What one run's guesses would show if the mechanism were Gaussian: an estimate, no bound.

    Source: Mahloujifar, Melis and Chaudhuri 2024.

    \b
    Example:
      dpaudit bound f-dp --canaries 1000 --guesses 100 --correct 95 --delta 1e-5
    """
    from dpigu.audits import f_dp_epsilon_if_gaussian

    mu, epsilon = f_dp_epsilon_if_gaussian(canaries, guesses, correct, delta, confidence)
    if as_json:
        print_json({"epsilon_if_gaussian": epsilon, "mu": mu})
    else:
        line = f"if Gaussian: μ = {_down(mu)}, ε = {_down(epsilon)} at δ = {delta:g}"
        click.echo(f"{line} ({100 * confidence:g}% confidence); an estimate, no bound")


def _bound_line(epsilon: float, delta: float, confidence: float) -> str:
    return f"ε ≥ {_down(epsilon)} at δ = {delta:g} ({100 * confidence:g}% confidence)"


def _down(value: float) -> str:
    """Four decimals, rounded towards zero: a bound is never printed larger than it is."""
    return f"{math.floor(value * 1e4) / 1e4:.4f}" if math.isfinite(value) else "∞"


main.add_command(mechanism)
