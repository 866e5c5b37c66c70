"""A calibrated plan: noise, sampling and claim fixed; the only thing that trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dp_accounting import DpEvent, NonPrivateDpEvent
from dpigu.dpcore.adjacency import Adjacency
from dpigu.dpcore.claim.ledger import Mechanism, composed
from dpigu.dpcore.errors import ConfigurationError
from dpigu.dpcore.grammar.plan import Phase, Plan
from dpigu.dpcore.registry.configuration import plan_from_dict, plan_to_dict, typed
from dpigu.dpcore.sampling import PoissonSampler


@dataclass(frozen=True)
class CalibratedPlan:
    """Phases with their noise, the sampling and the claim: what trains, is stored and is charged.

    A `Plan` has ratios between noise multipliers. Here each is σ, in units of the clipping bound.
    `dpigu.trainers.calibration.calibrate` makes one from a plan.

    Args:
        phases: run one after the other.
        sampler: the sampling rate and the declared number of records.
        delta: δ of the claim.
        accountant: who states ε.
        epsilon: the target at which the budget ends; None where σ was given without a target.
        adjacency: which data sets are neighbours.
    """

    phases: tuple[Phase, ...]
    sampler: PoissonSampler
    delta: float
    accountant: str
    epsilon: float | None = None
    adjacency: Adjacency = Adjacency.ADD_OR_REMOVE_ONE

    def __post_init__(self) -> None:
        Plan(self.phases, self.adjacency)  # a plan's own checks

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], where: str = "calibrated") -> CalibratedPlan:
        """The inverse of `to_dict`, exact to the last bit."""
        rest = dict(table)
        kinds = {"rate": float, "records": int, "delta": float, "accountant": str}
        for key in kinds:
            if key not in table:
                raise ConfigurationError(f"the key {key!r} is missing", where=where)
        known = {key: typed(rest.pop(key), kind, f"{where}.{key}") for key, kind in kinds.items()}
        epsilon = typed(rest.pop("epsilon", None), float | None, f"{where}.epsilon")
        plan = plan_from_dict(rest, where)
        sampler = PoissonSampler(known["rate"], known["records"])
        return cls(
            plan.phases, sampler, known["delta"], known["accountant"], epsilon, plan.adjacency
        )

    def to_dict(self) -> dict[str, Any]:
        """The whole as plain data, with every option written out."""
        return {
            "rate": self.sampler.rate,
            "records": self.sampler.records,
            "delta": self.delta,
            "accountant": self.accountant,
            **({} if self.epsilon is None else {"epsilon": self.epsilon}),
            **plan_to_dict(Plan(self.phases, self.adjacency)),
        }

    @property
    def private(self) -> bool:
        """Whether noise is drawn."""
        return self.phases[0].pipeline.private

    @property
    def steps(self) -> int:
        """The steps of all phases together."""
        return sum(phase.steps for phase in self.phases)

    @property
    def mechanisms(self) -> tuple[Mechanism, ...]:
        """What the ledger's head says of every phase: a step's release, and the look at it."""
        return tuple(_mechanism(phase, self.sampler, self.private) for phase in self.phases)

    def event(self, charged: Sequence[int] | None = None) -> DpEvent:
        """The event of the whole, or of `charged` steps of each phase."""
        return composed(
            self.mechanisms, [phase.steps for phase in self.phases] if charged is None else charged
        )


def _mechanism(phase: Phase, sampler: PoissonSampler, private: bool) -> Mechanism:
    selective = phase.selective_update
    return Mechanism(
        name=phase.name,
        planned=phase.steps,
        event=phase.event(sampler) if private else NonPrivateDpEvent(),
        rate=phase.sampler(sampler).block_rate,
        noise_multiplier=phase.pipeline.noiser.noise_multiplier,
        look_rate=None if selective is None else selective.sampler(sampler).rate,
        look_noise_multiplier=None
        if selective is None
        else selective.pipeline.noiser.noise_multiplier,
        period=phase.period,
        turns=phase.pipeline.bands if phase.pipeline.endless else None,
    )
