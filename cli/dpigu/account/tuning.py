"""`dpigu account tuning`: ε with the choice of hyperparameters charged."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from dpigu.cli.dpigu.account.commands import account
from dpigu.cli.dpigu.account.mechanism import (
    config_option,
    length_of,
    length_options,
    planned,
    require,
    sampler_of,
    sampling_options,
    steps_event,
)
from dpigu.cli.shared.options import NOT_NEGATIVE, PROBABILITY, Number, json_option
from dpigu.cli.shared.output import print_fields, print_json

if TYPE_CHECKING:
    from dp_accounting import DpEvent
    from dpigu.accountants import Trials

SHAPES = {"logarithmic": 0.0, "geometric": 1.0, "poisson": math.inf}


@account.command()
@sampling_options
@length_options
@click.option("--noise-multiplier", type=NOT_NEGATIVE, help="σ, in units of the clipping norm.")
@click.option("--delta", type=PROBABILITY, help="δ.")
@config_option
@click.option(
    "--trials",
    "mean",
    type=Number(min=1, max=1e6),
    default=4,
    show_default=True,
    help="Mean number of trials; the number itself is drawn at random and stays secret.",
)
@click.option(
    "--distribution",
    type=click.Choice(["cheapest", *SHAPES]),
    default="cheapest",
    show_default=True,
    help="Of the number of trials; cheapest: logarithmic or Poisson, by ε.",
)
@click.option(
    "--score-noise",
    type=NOT_NEGATIVE,
    default=10,
    show_default=True,
    help="Standard deviation of the noise on a trial's count of validation records right.",
)
@click.option(
    "--final/--no-final",
    default=True,
    show_default=True,
    help="Train once more, on all data, with what was chosen; or release the best trial's model.",
)
@json_option("the answer")
def tuning(
    delta: float | None,
    config: Path | None,
    mean: float,
    distribution: str,
    score_noise: float,
    final: bool,
    as_json: bool,
    **mechanism: Any,
) -> None:
    """ε of choosing the best of a random number of trials, by noised scores, and of the final run.

    The number of trials is drawn from the distribution that is printed, and stays secret. Every
    trial draws its settings afresh, at the rate, noise and steps of the final run. Scores count
    the right answers on validation records that the trials do not train on. By RDP.

    Not covered: a fixed number of trials, a grid walked through, scores without noise.

    \b
    Example:
      dpigu account tuning --batch 1000 --records 60000 --steps 500 \\
        --noise-multiplier 1.1354 --delta 1e-5 --trials 4
    """
    from dp_accounting import GaussianDpEvent
    from dpigu.accountants import Trials, cheapest_trials, get_accountant, tuned_epsilon
    from dpigu.accountants.base import rounded_up

    run, delta = _run(config, delta, mechanism)
    last, score = run if final else None, GaussianDpEvent(score_noise)
    if distribution == "cheapest":
        trials = cheapest_trials(run, last, delta, mean=mean, score=score)
    else:
        trials = Trials(mean, SHAPES[distribution])
    one_run = get_accountant("rdp").epsilon(run, delta)
    tuned = tuned_epsilon(run, last, delta, trials=trials, score=score)
    if as_json:
        print_json(
            {
                "epsilon": tuned.value,
                "epsilon_of_one_run": one_run.value,
                "delta": delta,
                "accountant": tuned.accountant,
                "final_run": final,
                "score_noise": score_noise,
                "trials": _trials_json(trials),
                "note": tuned.note,
            }
        )
        return
    best = "best trial and final run" if final else "best trial, whose model is released"
    fields = [("one run", one_run), (best, tuned)]
    print_fields(
        [
            (n, f"no ε: {e.note}" if e.value is None else f"ε = {rounded_up(e.value)}")
            for n, e in fields
        ]
    )
    click.echo(f"at δ = {delta:g}, add-or-remove-one adjacency, by rdp")
    click.echo(f"number of trials: {_trials_text(trials)}")
    click.echo(f"scores: records right, with noise of standard deviation {score_noise:g}")


def _run(
    config: Path | None, delta: float | None, mechanism: dict[str, Any]
) -> tuple[DpEvent, float]:
    """The event of one run, and δ."""
    from dpigu.dpcore import Adjacency

    if config is None:
        sampler = sampler_of(mechanism)
        steps = length_of(mechanism, sampler)
        require(mechanism, "noise_multiplier")
        run = steps_event(sampler, mechanism["noise_multiplier"], steps)
    else:
        run, delta, relation = planned(config, delta, mechanism)
        if relation != Adjacency.ADD_OR_REMOVE_ONE:
            raise click.UsageError(
                f"The plan of {config} claims {relation}; tuning is charged under "
                f"{Adjacency.ADD_OR_REMOVE_ONE} only."
            )
    if delta is None:
        raise click.UsageError("Missing option '--delta'.")
    return run, delta


def _trials_json(trials: Trials) -> dict[str, Any]:
    return {
        "distribution": trials.name,
        "mean": trials.mean,
        "shape": trials.shape,
        "gamma": trials.gamma,
        "probability_of_none": trials.probability(0),
        "probability_of_one": trials.probability(1),
    }


def _trials_text(trials: Trials) -> str:
    text = f"{trials}; a single one in {trials.probability(1):.1%} of cases"
    if trials.probability(0) > 0:
        text += f", none in {trials.probability(0):.1%}: then settings fixed beforehand are taken"
    return text
