"""`dpigu budget`: one (ε, δ) for a data set, which all runs that name it keep together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from dpigu.cli.dpigu.group import main
from dpigu.cli.shared.options import POSITIVE, PROBABILITY, json_option
from dpigu.cli.shared.output import print_fields, print_json

if TYPE_CHECKING:
    from dpigu.accountants.budgets.state import BudgetState
    from dpigu.accountants.events import Term

_file = click.argument("file", type=click.Path(path_type=Path))


@main.group()
def budget() -> None:
    """One (ε, δ) for a data set: runs reserve from it before they release anything.

    \b
    Example:
      dpigu budget create digits.budget --epsilon 4 --delta 1e-5
      dpigu train --preset dpsgd --data digits --epsilon 1 --accountant rdp --budget digits.budget
      dpigu budget show digits.budget
    """


@budget.command()
@_file
@click.option("--epsilon", type=POSITIVE, required=True, help="ε of all runs together.")
@click.option("--delta", type=PROBABILITY, required=True, help="δ of all runs together.")
@click.option(
    "--declared",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="CONFIG",
    help="A run that will be made, by its config.toml with its noise; once for each run. Only "
    "these runs are then admitted, and they are composed tightly, by PLD.",
)
@click.option(
    "--order",
    type=POSITIVE,
    help="The Rényi order at which runs are composed  [default: the first run's best]",
)
def create(
    file: Path, epsilon: float, delta: float, declared: tuple[Path, ...], order: float | None
) -> None:
    """Make a budget file.

    Runs that are chosen after seeing what earlier ones released are composed by a Rényi filter.
    If all runs are known beforehand, declare them: more of them fit.

    \b
    Examples:
      dpigu budget create digits.budget --epsilon 4 --delta 1e-5
      dpigu budget create two.budget --epsilon 4 --delta 1e-5 \\
        --declared runs/a/public/config.toml --declared runs/b/public/config.toml
    """
    from dpigu.accountants.budgets.file import BudgetFile
    from dpigu.accountants.budgets.filters import DeclaredReleases, RenyiFilter
    from dpigu.dpcore import Adjacency

    if not declared:
        state = BudgetFile.create(file, RenyiFilter(epsilon, delta, order)).read()
    elif order is not None:
        raise click.UsageError("--order is of a budget without --declared runs.")
    else:
        releases, relation = _releases(declared, delta)
        checked = DeclaredReleases.checked(epsilon, delta, releases, Adjacency(relation))
        state = BudgetFile.create(file, checked, Adjacency(relation)).read()
    print_fields([("budget", str(file)), *_fields(state)])


@budget.command()
@_file
@json_option("the budget")
def show(file: Path, as_json: bool) -> None:
    """What a budget holds: its (ε, δ), the part that is taken, and every run that took it.

    \b
    Example:
      dpigu budget show digits.budget
    """
    from dpigu.accountants.budgets.file import BudgetFile

    state = BudgetFile(file).read()
    if as_json:
        print_json(_about(state))
        return
    print_fields([("budget", str(file)), *_fields(state)])
    for entry in state.sessions:
        part = f"{state.filter.share(entry.charged):.2%}" if entry.charged else "nothing"
        held = ", reserved: it is at work, or crashed" if entry.open else ""
        click.echo(f"  run {entry.run[:12]}  {entry.label}: {part}{held}")


@budget.command()
@_file
@click.option("--run", "name", required=True, help="The run's name, or how it begins.")
def close(file: Path, name: str) -> None:
    """Give back what a crashed run reserved and had not written down ahead of releasing it.

    A process that is still at work on the run stops at its next block of steps.

    \b
    Example:
      dpigu budget close digits.budget --run 3f2a
    """
    from dpigu.accountants.budgets.file import BudgetFile

    state = BudgetFile(file).close_run(name)
    print_fields([("budget", str(file)), *_fields(state)])


def _releases(declared: tuple[Path, ...], delta: float) -> tuple[tuple[Term, ...], str]:
    """The releases of all the declared runs, and the neighbouring relation that they share."""
    from dpigu.accountants.budgets.filters import counts_of, terms_of
    from dpigu.accountants.events import flatten
    from dpigu.cli.dpigu.account.mechanism import planned

    nothing: dict[str, Any] = dict.fromkeys(
        ("rate", "batch", "records", "steps", "noise_multiplier")
    )
    runs = [planned(path, delta, nothing) for path in declared]
    relations = {str(relation) for _, _, relation in runs}
    if len(relations) > 1:
        raise click.UsageError(f"The declared runs claim {' and '.join(sorted(relations))}.")
    terms = terms_of(counts_of(t for event, _, _ in runs for t in flatten(event)))
    return terms, relations.pop()


def _fields(state: BudgetState) -> list[tuple[str, str]]:
    from dpigu.accountants.budgets.filters import RenyiFilter

    by = "the declared runs, composed by PLD"
    if isinstance(state.filter, RenyiFilter):
        order = state.filter.order
        fixed = "the first run fixes the order" if order is None else f"order {order:g}"
        by = f"a Rényi filter: {fixed}"
    claim = f"ε = {state.filter.epsilon:g} at δ = {state.filter.delta:g}, {state.adjacency}"
    return [
        ("claim", f"{claim}, for everything that these runs release together"),
        ("unit", state.unit or "what the first run protects"),
        ("composed", by),
        ("taken", f"{state.share:.2%} in {len(state.sessions)} starts and resumptions"),
    ]


def _about(state: BudgetState) -> dict[str, Any]:
    from dpigu.accountants.budgets.state import table_of

    told = {k: v for k, v in table_of(state).items() if k != "digest"}
    return {**told, "taken": state.share}
