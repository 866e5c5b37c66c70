"""`dpaudit plan`: how many canaries, for how much power."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click
from dpigu.audits.wording import down
from dpigu.cli.dpaudit.group import main
from dpigu.cli.shared.options import COUNT, NOT_NEGATIVE, POSITIVE, PROBABILITY, SHARE, json_option
from dpigu.cli.shared.output import print_fields, print_json
from dpigu.cli.shared.screen import WIDTH

if TYPE_CHECKING:
    from dpigu.audits.statistics.power import PowerPlan


@main.command("plan")
@click.option("--noise-multiplier", type=POSITIVE, help="σ of the run.")
@click.option("--rate", type=SHARE, help="Its sampling rate.")
@click.option("--steps", type=COUNT, help="Its steps.")
@click.option(
    "--black-box", is_flag=True, help="Only the model will be seen; needs --claim-epsilon."
)
@click.option("--claim-epsilon", type=NOT_NEGATIVE, help="The claim, for --black-box.")
@click.option("--delta", type=PROBABILITY, default=1e-5, show_default=True, help="Of its claim.")
@click.option("--confidence", type=PROBABILITY, default=0.95, show_default=True)
@click.option("--canaries", type=COUNT, multiple=True, help="A number to try; repeatable.")
@click.option(
    "--noise", type=POSITIVE, multiple=True, help="A share of σ really drawn; repeatable."
)
@click.option("--records", type=COUNT, help="Declared records: what the canaries cost of them.")
@click.option("--picture", type=click.Path(path_type=Path), help="A .png or .svg to draw.")
@json_option("the plan")
@click.pass_context
def power_plan(
    ctx: click.Context,
    /,
    noise_multiplier: float | None,
    rate: float | None,
    steps: int | None,
    black_box: bool,
    claim_epsilon: float | None,
    delta: float,
    confidence: float,
    canaries: tuple[int, ...],
    noise: tuple[float, ...],
    records: int | None,
    picture: Path | None,
    as_json: bool,
) -> None:
    """How many canaries an audit needs against noise that is less than claimed, by simulation.

    The canaries are crafted gradients (dpigu train --canary-kind gradient). Those told by the
    model alone show less: with --black-box the plan says how many guesses must be right.

    \b
    Examples:
      dpaudit plan --noise-multiplier 3.3 --rate 0.17 --steps 300 --picture power.png
      dpaudit plan --black-box --claim-epsilon 1
    """
    if black_box:
        if claim_epsilon is None:
            raise click.UsageError("--black-box needs --claim-epsilon.", ctx)
        _black_box(claim_epsilon, delta, confidence, canaries, as_json)
        return
    if noise_multiplier is None or rate is None or steps is None:
        raise click.UsageError("give --noise-multiplier, --rate and --steps; or --black-box.", ctx)
    from dpigu.audits.report.power_picture import draw_power
    from dpigu.audits.statistics.power import CANARIES, NOISE, plan_power

    plan = plan_power(
        noise_multiplier=noise_multiplier,
        rate=rate,
        steps=steps,
        delta=delta,
        confidence=confidence,
        canaries=canaries or CANARIES,
        noise=noise or NOISE,
    )
    if picture is not None:
        draw_power(plan, picture)
    if as_json:
        print_json(_json(plan))
    else:
        _show(plan, records, picture)


def _black_box(
    epsilon: float, delta: float, confidence: float, canaries: tuple[int, ...], as_json: bool
) -> None:
    """A line for each number of canaries: what perfect guesses show, and how many must be right."""
    from dataclasses import asdict

    from dpigu.accountants.base import stated
    from dpigu.audits.advice import more_canaries
    from dpigu.audits.statistics.black_box import plan_black_box
    from dpigu.audits.statistics.power import CANARIES

    rows = plan_black_box(
        epsilon=epsilon, delta=delta, confidence=confidence, canaries=canaries or CANARIES
    )
    if as_json:
        print_json({"epsilon": epsilon, "delta": delta, "rows": [asdict(row) for row in rows]})
        return
    sure = f"{100 * confidence:g}% confidence"
    click.echo(f"Claim: ε = {stated(epsilon)} at δ = {delta:g}, {sure}.\n")
    click.echo(f"{'canaries':<10}{'ceiling':>9}   to contradict, of the surest guesses")
    for row in rows:
        if row.easiest is None:
            said = "nothing: all guesses right show less than the claim"
        else:
            ways = [row.needed[0], row.easiest]
            said = " or ".join(f"{v} of {r} ({v / r:.0%})" for r, v in dict.fromkeys(ways))
        click.echo(f"{row.canaries:<10}{down(row.ceiling):>9}   {said}")
    if all(row.easiest is None for row in rows):
        advice = more_canaries(epsilon, delta, confidence)
        click.echo("\n" + textwrap.fill(f"To have power, {advice.what}. {advice.why}", WIDTH))


def _json(plan: PowerPlan) -> dict[str, object]:
    from dataclasses import asdict

    violations = [
        asdict(violation) | {"canaries_for_80_percent": plan.enough(violation)}
        for violation in plan.violations
    ]
    return asdict(plan) | {"violations": violations}


def _show(plan: PowerPlan, records: int | None, picture: Path | None) -> None:
    """A line for each violation, a column for each number of canaries."""
    from dpigu.accountants.base import stated

    click.echo(f"Claim: ε = {stated(plan.epsilon)} at δ = {plan.delta:g}. Power of an audit, by")
    click.echo(f"crafted gradients, at {100 * plan.confidence:g}% confidence:\n")
    head = "".join(f"{m:>8}" for m in plan.canaries)
    click.echo(f"{'noise drawn':<13}{'true ε':>9}{head}  canaries")
    for violation in plan.violations:
        true = "none" if violation.epsilon is None else f"{violation.epsilon:.4g}"
        row = "".join(f"{power:>8.0%}" for power in violation.power)
        click.echo(f"{violation.noise:<13g}{true:>9}{row}")
    click.echo("")
    fields = []
    for violation in plan.violations:
        if violation.noise < 1:
            enough = plan.enough(violation)
            said = f"{enough} canaries" if enough else "more canaries than these"
            fields.append((f"80% at {violation.noise:g} σ", said))
    fields.append(("noise 1", "no violation: what is contradicted there is a false alarm"))
    if records is not None:
        few = [m for m in plan.canaries if 2 * m <= records]
        cost = ", ".join(f"{m}: {m / records:.1%}" for m in few) or "none, they are too many"
        fields.append(("cost", f"records set aside or added, of {records}: {cost}"))
        fields.append(("", "crafted gradients set none aside; half of them add a clipped row"))
    if picture is not None:
        fields.append(("picture", str(picture)))
    print_fields(fields)
