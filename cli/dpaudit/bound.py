"""`dpaudit bound`: the calculators behind a verdict."""

from __future__ import annotations

import click
from dpigu.audits.wording import down
from dpigu.cli.dpaudit.group import main
from dpigu.cli.shared.options import NOT_NEGATIVE, PROBABILITY, delta_option, json_option, together
from dpigu.cli.shared.output import print_json

_SOME = click.IntRange(min=0)
_confidence = click.option(
    "--confidence", type=PROBABILITY, default=0.95, show_default=True, help="Of the bound."
)
_one_run = together(
    click.option("--canaries", type=_SOME, required=True, help="m, abstentions included."),
    click.option("--guesses", type=_SOME, required=True, help="r, fixed beforehand."),
    click.option("--correct", type=_SOME, required=True, help="v, the guesses that were right."),
    delta_option,
    _confidence,
)


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
@delta_option
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
        line = f"if Gaussian: μ = {down(mu, 5)}, ε = {down(epsilon, 5)} at δ = {delta:g}"
        click.echo(f"{line} ({100 * confidence:g}% confidence); an estimate, no bound")


def _bound_line(epsilon: float, delta: float, confidence: float) -> str:
    return f"ε ≥ {down(epsilon, 5)} at δ = {delta:g} ({100 * confidence:g}% confidence)"
