"""The mechanism that `dpigu account` asks about: from the options, or from a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from dpigu.cli.shared.options import COUNT, POSITIVE, SHARE, together

if TYPE_CHECKING:
    from dp_accounting import DpEvent
    from dpigu.accountants.events import Term
    from dpigu.dpcore import Adjacency, PoissonSampler

sampling_options = together(
    click.option("--rate", type=SHARE, help="Poisson sampling rate q."),
    click.option("--batch", type=POSITIVE, help="Expected batch: with --records, for --rate."),
    click.option("--records", type=COUNT, help="Declared number of records."),
)
length_options = together(
    click.option("--steps", type=COUNT, help="Number of steps T."),
    click.option("--epochs", type=POSITIVE, help="Steps × rate, in place of --steps."),
)
config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Account the whole plan of a run's config.toml instead.",
)


def require(mechanism: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if mechanism[name] is None:
            raise click.UsageError(f"Missing option '--{name.replace('_', '-')}'.")


def sampler_of(mechanism: Mapping[str, Any]) -> PoissonSampler:
    from dpigu.dpcore import PoissonSampler

    rate, batch, records = mechanism["rate"], mechanism["batch"], mechanism["records"]
    if (rate is None) == (batch is None and records is None):
        raise click.UsageError("Give --rate, or --batch and --records.")
    if rate is not None:
        return PoissonSampler(rate, records=1)
    require(mechanism, "batch", "records")
    return PoissonSampler(batch / records, records)


def length_of(mechanism: Mapping[str, Any], sampler: PoissonSampler) -> int:
    """The number of steps, from --steps or --epochs."""
    steps: int | None = mechanism["steps"]
    if mechanism["epochs"] is None:
        require(mechanism, "steps")
        assert steps is not None
        return steps
    if steps is not None:
        raise click.UsageError("Give --steps or --epochs, and not both.")
    from dpigu.trainers.calibration import steps_of

    return steps_of(mechanism["epochs"], sampler)


def steps_terms(sampler: PoissonSampler, noise_multiplier: float, steps: int) -> tuple[Term, ...]:
    """The same as `steps_event`, as the accountants read it: no library is loaded for it."""
    from dpigu.accountants.events import Term

    return (Term(sampler.rate, noise_multiplier, steps),)


def steps_event(sampler: PoissonSampler, noise_multiplier: float, steps: int) -> DpEvent:
    from dp_accounting import GaussianDpEvent, SelfComposedDpEvent

    return SelfComposedDpEvent(sampler.event(GaussianDpEvent(noise_multiplier)), steps)


def planned(
    config: Path, delta: float | None, mechanism: Mapping[str, Any]
) -> tuple[DpEvent, float, Adjacency]:
    """The event, δ and adjacency of a configuration whose noise is fixed."""
    from dpigu.cli.shared.recipes import declared_records
    from dpigu.dpcore import ConfigurationError
    from dpigu.trainers import recipe_from_file
    from dpigu.trainers.calibration import with_epochs

    if given := [name for name, value in mechanism.items() if value is not None]:
        raise click.UsageError(f"--config says what '--{given[0].replace('_', '-')}' would.")
    recipe = recipe_from_file(config)
    settings, sampler = recipe.settings, recipe.settings.sampler(declared_records(recipe))
    plan = with_epochs(recipe.plan, sampler, settings)
    if plan.private and settings.noise_multiplier is None:
        raise ConfigurationError(
            "the noise of this plan is not fixed: training calibrates it",
            where=str(config),
            remedy=f"Ask `dpigu describe {config}`, or set noise_multiplier in its settings.",
        )
    factor = 1.0 if settings.noise_multiplier is None else settings.noise_multiplier
    event = plan.scaled_noise(factor).event(sampler)
    return event, settings.delta if delta is None else delta, plan.adjacency
