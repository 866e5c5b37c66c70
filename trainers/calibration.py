"""From a plan to a calibrated plan: the noise that keeps a target (ε, δ), or the noise given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from dp_accounting import DpEvent
from dpigu.accountants import Epsilon, calibrate_noise_multiplier, get_accountant, max_steps_within
from dpigu.dpcore import (
    Adjacency,
    BudgetError,
    CalibratedPlan,
    ConfigurationError,
    Plan,
    PoissonSampler,
)
from dpigu.dpcore.claim import Ledger, composed
from dpigu.trainers.settings import Settings

from dpigu.names import AccountantName

SHORT = 50_000
"""Visits to records below which a run is short: steps × expected batch."""


class ChosenAccountant(NamedTuple):
    """An accountant's name, and why it was chosen."""

    name: AccountantName
    why: str


def calibrate(plan: Plan, settings: Settings, records: int) -> CalibratedPlan:
    """Fix the noise of a plan: every multiplier times one factor.

    The factor is `settings.noise_multiplier`, or the smallest with which all steps of the plan
    stay within (ε, δ).

    Args:
        plan: its noise multipliers are ratios, and its steps shares if `settings` has epochs.
        settings: the target or the factor, the accountant, and how batches are sampled.
        records: the declared number of records.

    Raises: ConfigurationError without target and factor; BudgetError if the target does not pay
        for a single step; what the accountant refuses.
    """
    sampler = settings.sampler(records)
    plan = with_epochs(plan, sampler, settings)
    if plan.private:
        plan = plan.scaled_noise(noise_factor(plan, sampler, settings))
    calibrated = CalibratedPlan(
        plan.phases,
        sampler,
        settings.delta,
        accountant_for(plan, sampler, settings).name,
        settings.epsilon if plan.private else None,
        plan.adjacency,
    )
    if settings.noise_multiplier is not None:
        _check_a_step_is_affordable(calibrated)
    return calibrated


def noise_factor(plan: Plan, sampler: PoissonSampler, settings: Settings) -> float:
    """The factor on a plan's noise multipliers: the one given, or the smallest within (ε, δ)."""
    if settings.noise_multiplier is not None:
        return settings.noise_multiplier
    if settings.epsilon is None:
        raise ConfigurationError(
            "a private plan needs a target ε or a noise multiplier",
            where="settings",
            remedy="Give `epsilon` and `delta`, or `noise_multiplier`.",
        )
    plan = with_epochs(plan, sampler, settings)
    return calibrate_noise_multiplier(
        lambda z: plan.scaled_noise(z).event(sampler),
        settings.epsilon,
        settings.delta,
        accountant_for(plan, sampler, settings).name,
        plan.adjacency,
    )


def accountant_for(plan: Plan, sampler: PoissonSampler, settings: Settings) -> ChosenAccountant:
    """Who plans and states ε of a run, and why: the one that is named; else by public constants.

    PRV calibrates in seconds, whatever is trained; RDP in a fraction of that, with 5 to 7% more
    noise. A run that looks at fewer than 50 000 records in all is over as soon, on a small model.
    """
    if settings.accountant != "auto":
        return ChosenAccountant(settings.accountant, "named in the settings")
    if plan.adjacency is Adjacency.REPLACE_ONE:
        return ChosenAccountant("pld", "the only one for replace-one adjacency")
    visits = f"{plan.steps * sampler.expected_batch:.0f} visits to records in all"
    if plan.steps * sampler.expected_batch < SHORT:
        return ChosenAccountant("rdp", f"quick, for a short run: {visits}, below {SHORT}")
    return ChosenAccountant("prv", f"tight, for a run of {visits}, {SHORT} or more")


def steps_of(epochs: float, sampler: PoissonSampler) -> int:
    """The steps in which a record is expected to be drawn so many times: at least one."""
    return max(1, round(epochs / sampler.rate))


def with_epochs(plan: Plan, sampler: PoissonSampler, settings: Settings) -> Plan:
    """The plan with the steps of the epochs in the settings, if these have any."""
    if settings.epochs is None:
        return plan
    return with_steps(plan, steps_of(settings.epochs, sampler))


def with_steps(plan: Plan, steps: int) -> Plan:
    """A plan with so many steps in all, divided among its phases as before; each has at least one.

    Raises: ConfigurationError if there are fewer steps than phases.
    """
    if steps < len(plan.phases):
        raise ConfigurationError(
            "there are fewer steps than phases",
            where="steps",
            got=steps,
            expected=f"at least {len(plan.phases)}",
            remedy="Train for more `steps` or `epochs`.",
        )
    ends, before = [0], 0
    for i, phase in enumerate(plan.phases):
        before += phase.steps
        latest = steps - (len(plan.phases) - i - 1)
        ends.append(min(max(round(before * steps / plan.steps), ends[-1] + 1), latest))
    phases = tuple(
        replace(phase, steps=ends[i + 1] - ends[i]) for i, phase in enumerate(plan.phases)
    )
    return replace(plan, phases=phases)


def epsilon_of(plan: CalibratedPlan, charged: Sequence[int]) -> Epsilon:
    """ε of so many steps of each phase, by the plan's accountant."""
    return get_accountant(plan.accountant).epsilon(plan.event(charged), plan.delta, plan.adjacency)


def epsilon_of_ledger(ledger: Ledger) -> Epsilon:
    """ε of what a ledger says was paid for: of nothing else."""
    head = ledger.head
    return get_accountant(head.accountant).epsilon(ledger.event, head.delta, head.adjacency)


def claimed_epsilon(ledger: Ledger) -> float | None:
    """The ε that was fixed before the first step: the target, or that of the planned steps.

    Steps that ran again after interruptions may pass a plan without a target; then it is what
    was paid for.
    """
    head = ledger.head
    if head.epsilon is not None:
        return head.epsilon
    event = claimed_event(ledger)
    return get_accountant(head.accountant).epsilon(event, head.delta, head.adjacency).value


def claimed_event(ledger: Ledger) -> DpEvent:
    """What a claim covers: the ledger, where the run ended by itself; else the plan with it."""
    if ledger.complete:
        return ledger.event
    head = ledger.head
    planned = [max(m.planned, n) for m, n in zip(head.mechanisms, ledger.charged, strict=True)]
    return composed(head.mechanisms, planned)


def affordable(plan: CalibratedPlan, charged: Sequence[int], ahead: Sequence[int]) -> int:
    """How many of the steps ahead the target ε pays for, on top of those charged."""
    if plan.epsilon is None:
        return sum(ahead)

    def event(steps: int) -> DpEvent:
        counts = []
        for before, phase_ahead in zip(charged, ahead, strict=True):
            counts.append(before + min(steps, phase_ahead))
            steps -= min(steps, phase_ahead)
        return plan.event(counts)

    return max_steps_within(
        event, sum(ahead), plan.epsilon, plan.delta, plan.accountant, plan.adjacency
    )


def _check_a_step_is_affordable(plan: CalibratedPlan) -> None:
    once = [int(i == 0) for i in range(len(plan.phases))]
    if not affordable(plan, [0] * len(once), once):
        raise BudgetError(
            "the budget does not pay for a single step",
            where="settings.epsilon",
            got=epsilon_of(plan, once).value,
            expected=f"at most {plan.epsilon}",
            remedy="Raise the target ε or the noise multiplier.",
        )
