"""`dpigu account`: ε of a mechanism, and the noise for a target."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from dpigu.cli.dpigu.account.mechanism import (
    config_option,
    length_of,
    length_options,
    planned,
    require,
    sampler_of,
    sampling_options,
    steps_terms,
)
from dpigu.cli.dpigu.group import main
from dpigu.cli.shared.options import (
    NOT_NEGATIVE,
    POSITIVE,
    PROBABILITY,
    json_option,
    together,
)
from dpigu.cli.shared.output import print_fields, print_json

from dpigu.names import ACCOUNTANT_NAMES

if TYPE_CHECKING:
    from dpigu.accountants import Epsilon

Answer = TypeVar("Answer")

_claim = together(
    click.option(
        "--accountant",
        type=click.Choice([*ACCOUNTANT_NAMES, "all"]),
        default="prv",
        show_default=True,
    ),
    click.option(
        "--adjacency",
        type=click.Choice(["add-or-remove-one", "replace-one"]),
        default="add-or-remove-one",
        show_default=True,
        help="Which data sets are neighbours.",
    ),
    json_option("the answers"),
)


@main.group()
def account() -> None:
    """What steps cost: ε from the noise, the noise from ε, or ε with the tuning charged.

    \b
    Example:
      dpigu account noise --epsilon 4 --rate 0.0167 --steps 1000 --delta 1e-5
      dpigu account ledger runs/low
    """


@account.command()
@sampling_options
@length_options
@click.option("--noise-multiplier", type=NOT_NEGATIVE, help="σ, in units of the clipping norm.")
@click.option("--delta", type=PROBABILITY, help="δ.")
@config_option
@_claim
def epsilon(
    delta: float | None,
    config: Path | None,
    accountant: str,
    adjacency: str,
    as_json: bool,
    **mechanism: Any,
) -> None:
    """ε of T steps of the Gaussian mechanism on Poisson samples.

    \b
    Example:
      dpigu account epsilon --rate 0.0166667 --steps 2400 \\
        --noise-multiplier 2.49 --delta 1e-5 --accountant all
    """
    from dpigu.accountants import get_accountant
    from dpigu.dpcore import Adjacency

    relation = Adjacency(adjacency)
    if config is not None:
        event, delta, relation = planned(config, delta, mechanism)
    else:
        sampler = sampler_of(mechanism)
        steps = length_of(mechanism, sampler)
        require(mechanism, "noise_multiplier")
        event = steps_terms(sampler, mechanism["noise_multiplier"], steps)
    if delta is None:
        raise click.UsageError("Missing option '--delta'.")
    at = delta
    answers = _ask(accountant, lambda name: get_accountant(name).epsilon(event, at, relation))
    if as_json:
        print_json({name: _epsilon_json(name, answer) for name, answer in answers.items()})
    else:
        print_fields([(n, _epsilon_text(a)) for n, a in answers.items()])
        click.echo(f"at δ = {delta:g}, {relation} adjacency")


@account.command()
@click.option("--epsilon", "target", type=POSITIVE, required=True, help="Target ε.")
@sampling_options
@length_options
@click.option("--delta", type=PROBABILITY, required=True, help="Target δ.")
@_claim
def noise(
    target: float, delta: float, accountant: str, adjacency: str, as_json: bool, **mechanism: Any
) -> None:
    """The smallest noise multiplier σ that keeps T steps within (ε, δ).

    \b
    Example:
      dpigu account noise --epsilon 4 --batch 1000 --records 60000 \\
        --steps 1000 --delta 1e-5 --accountant pld
    """
    from dpigu.accountants import calibrate_noise_multiplier
    from dpigu.dpcore import Adjacency

    sampler, relation = sampler_of(mechanism), Adjacency(adjacency)
    steps = length_of(mechanism, sampler)
    answers = _ask(
        accountant,
        lambda name: calibrate_noise_multiplier(
            lambda z: steps_terms(sampler, z, steps), target, delta, name, relation
        ),
    )
    if as_json:
        print_json({name: _noise_json(answer) for name, answer in answers.items()})
    else:
        print_fields([(n, _noise_text(a)) for n, a in answers.items()])
        click.echo(f"for ε ≤ {target:g} at δ = {delta:g}, {relation} adjacency")


def _ask(accountant: str, ask: Callable[[str], Answer]) -> dict[str, Answer | Exception]:
    """Every answer, or one; of several, some may be refusals."""
    from dpigu.dpcore import AccountingError

    if accountant != "all":
        return {accountant: ask(accountant)}
    answers: dict[str, Answer | Exception] = {}
    refusals: list[AccountingError] = []
    for name in ACCOUNTANT_NAMES:
        try:
            answers[name] = ask(name)
        except AccountingError as error:
            answers[name] = error
            refusals.append(error)
    if len(refusals) == len(answers):
        raise refusals[-1]
    return answers


def _epsilon_json(name: str, answer: Epsilon | Exception) -> dict[str, Any]:
    if isinstance(answer, Exception):
        return {"epsilon": None, "note": str(answer)}
    found: dict[str, Any] = {"epsilon": answer.value}
    if name == "prv":
        found |= {"lower": answer.lower, "estimate": answer.estimate}
    if answer.note:
        found |= {"accountant": answer.accountant, "note": answer.note}
    return found


def _epsilon_text(answer: Epsilon | Exception) -> str:
    from dpigu.accountants.base import rounded_up

    if isinstance(answer, Exception):
        return str(answer)
    if answer.value is None:
        return f"no ε: {answer.note}"
    text = f"ε = {rounded_up(answer.value)}"
    if answer.lower is not None and answer.estimate is not None:
        text += f" (upper bound; estimate {answer.estimate:.4f}, lower {answer.lower:.4f})"
    return f"{text}; {answer.note}" if answer.note else text


def _noise_json(answer: float | Exception) -> dict[str, Any]:
    if isinstance(answer, Exception):
        return {"noise_multiplier": None, "note": str(answer)}
    return {"noise_multiplier": answer}


def _noise_text(answer: float | Exception) -> str:
    return str(answer) if isinstance(answer, Exception) else f"σ = {answer:.4f}"
