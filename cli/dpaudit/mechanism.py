"""`dpaudit mechanism`: a plan's own kernel, run on neighbouring batches, without training."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from dpigu.audits.wording import down
from dpigu.cli.dpaudit.group import main
from dpigu.cli.dpaudit.reproduction import status_of
from dpigu.cli.shared.options import (
    NOT_NEGATIVE,
    PROBABILITY,
    json_option,
    require_power_option,
)
from dpigu.cli.shared.output import print_fields, print_json
from dpigu.cli.shared.screen import WIDTH, show_verdict

if TYPE_CHECKING:
    from dpigu.audits.mechanism.report import MechanismAudit, MechanismTest
    from dpigu.dpcore import Plan, PoissonSampler

STEPS = 100
"""Steps of a preset's plan: a few of them run, from its start and from its middle."""


@main.command()
@click.argument("what", metavar="PRESET|CONFIG")
@click.option(
    "--noise-multiplier",
    type=NOT_NEGATIVE,
    help="Factor on the plan's noise: σ for a preset. [default: 1, or the configuration's own]",
)
@click.option("--set", "assignments", multiple=True, metavar="STAGE.OPTION=VALUE")
@click.option("--delta", type=PROBABILITY, default=1e-5, show_default=True, help="δ beside ε.")
@click.option(
    "--confidence", type=PROBABILITY, default=0.95, show_default=True, help="Of the verdict."
)
@click.option(
    "--quick", is_flag=True, help="In some seconds; sees what the noise lacks, and gross mistakes."
)
@require_power_option
@json_option("the report")
@click.pass_context
def mechanism(
    ctx: click.Context,
    what: str,
    noise_multiplier: float | None,
    assignments: tuple[str, ...],
    delta: float,
    confidence: float,
    quick: bool,
    require_power: bool,
    as_json: bool,
) -> None:
    """Audit what a plan releases, and the states it keeps, against the event it is charged as.

    Nothing is trained: the plan's kernel runs a few steps thousands of times, with and without one
    adversarial record, and the sampler's draws are counted. Each phase's noise is heard by itself,
    over the whole of its length. Takes up to a minute, and longer from σ = 2 on.

    \b
    Examples:
      dpaudit mechanism adadpigu
      dpaudit mechanism runs/low/public/config.toml --quick
      dpaudit mechanism dpsgd --noise-multiplier 0.5 --json
    """
    from dpigu.audits.mechanism import audit_mechanism

    plan, sampler = _plan(what, noise_multiplier, assignments)
    with _Bar() as progress:
        audit = audit_mechanism(
            plan,
            sampler=sampler,
            delta=delta,
            confidence=confidence,
            quick=quick,
            progress=progress,
        )
    if as_json:
        print_json({"subject": what, **audit.to_json()})
    else:
        _show(audit)
    ctx.exit(status_of(audit, require_power))


def _plan(
    what: str, factor: float | None, assignments: tuple[str, ...]
) -> tuple[Plan, PoissonSampler | None]:
    """The plan with its noise, and the sampler where a configuration says which."""
    from dpigu.cli.shared.recipes import declared_records
    from dpigu.dpcore import ConfigurationError
    from dpigu.mechanisms import PRESETS
    from dpigu.trainers import recipe_from_file
    from dpigu.trainers.calibration import noise_factor
    from dpigu.trainers.recipes import assigned

    if what in PRESETS:
        plan = assigned(PRESETS[what].plan(STEPS), assignments)
        return plan.scaled_noise(1.0 if factor is None else factor), None
    if not (what.endswith(".toml") or Path(what).is_file()):
        raise ConfigurationError(
            "there is no preset and no file of that name",
            where="PRESET|CONFIG",
            got=what,
            expected=f"{', '.join(PRESETS)} or a .toml file",
        )
    recipe = recipe_from_file(Path(what))
    plan = assigned(recipe.plan, assignments)
    sampler = recipe.settings.sampler(declared_records(recipe))
    if factor is None and plan.private:
        factor = noise_factor(plan, sampler, recipe.settings)
    return plan.scaled_noise(1.0 if factor is None else factor), sampler


class _Bar:
    """A bar on standard error, where that is a terminal."""

    def __enter__(self) -> Callable[[float], None]:
        hidden = not sys.stderr.isatty()
        self._bar = click.progressbar(length=1000, label="auditing", file=sys.stderr, hidden=hidden)
        self._bar.__enter__()
        return self._advance

    def __exit__(self, *error: object) -> None:
        self._bar.render_finish()

    def _advance(self, share: float) -> None:
        self._bar.update(max(0, round(1000 * share) - self._bar.pos))


def _show(audit: MechanismAudit) -> None:
    """The report in a screenful, verdict first."""
    from dpigu.audits.statistics.fdp import mu_to_epsilon

    show_verdict(audit.told())
    sigmas = ", ".join(f"{sigma:.4g}" for sigma in audit.noise_multipliers)
    best = audit.strongest
    epsilon = mu_to_epsilon(best.mu, audit.delta)
    fields = [
        ("event", f"σ = {sigmas}; {best.short_run}, at rate 1:"),
        ("", f"μ = {best.mu:.4g}, which is ε = {epsilon:.4g} at δ = {audit.delta:g}"),
        ("p-value", f"{audit.p_value:.3g} at the event, over all tests"),
        ("lower bound", f"μ ≥ {down(best.mu_bound)}, {best.reach:.0%} of what the event allows"),
        ("ceiling", f"μ = {down(best.mu_ceiling)}, had every guess been right"),
    ]
    for test in audit.tests:
        fields += [(test.name, line) for line in _lines(test)]
    worst, noise = audit.sampler.worst, audit.noise.worst
    rarest = f"; rarest: {noise.name}" if noise is not None else ""
    fields += [
        ("sampler", f"{len(audit.sampler.tests)} binomial tests of {audit.sampler.draws} batches"),
        ("", f"rarest: {worst.observed:,} {worst.name}, expected {worst.expected:,.1f}"),
        ("noise", f"{len(audit.noise.tests)} tests of {audit.noise.draws:,} draws{rarest}"),
        ("explored", f"{audit.explored:,} runs, which no test counts"),
    ]
    fields += [("assumed", line) for line in audit.assumptions]
    shown: list[tuple[str, str]] = []
    for name, value in fields:
        wrapped = textwrap.wrap(value, WIDTH - 18)
        repeated = any(name == before for before, _ in shown)
        shown += [(name if i == 0 and not repeated else "", line) for i, line in enumerate(wrapped)]
    print_fields(shown)


def _lines(test: MechanismTest) -> list[str]:
    wrong = test.false_positives + test.false_negatives
    return [
        f"{wrong:,} of {2 * test.runs:,} guesses wrong: {test.situation}",
        f"({test.short_run}), by {test.statistic}",
    ]
