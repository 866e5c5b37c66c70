"""A plan: phases in order, what each hands on, and the one event that is charged."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from dp_accounting import (
    ComposedDpEvent,
    DpEvent,
    NonPrivateDpEvent,
    SelfComposedDpEvent,
)

from dpcore.adjacency import Adjacency
from dpcore.errors import GrammarError
from dpcore.pipeline import Pipeline
from dpcore.sampling import PoissonSampler
from dpcore.stages import reads_of

Inherited = Literal["weights", "optimizer"]


@dataclass(frozen=True)
class Phase:
    """A pipeline run for a number of steps.

    Args:
        name: unique in the plan; other phases' stages are read by their own names.
        pipeline: what each step does.
        steps: how many steps.
        inherits: what it takes over from the phase before: "weights" (else the initial ones)
            and "optimizer" (its state, else a fresh one). Stage states are always readable.
    """

    name: str
    pipeline: Pipeline
    steps: int
    inherits: tuple[Inherited, ...] = ("weights", "optimizer")

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise GrammarError(
                "a phase needs at least one step", where=f"Phase {self.name!r}", got=self.steps
            )
        unknown = set(self.inherits) - {"weights", "optimizer"}
        if unknown:
            raise GrammarError(
                "a phase can inherit weights and optimizer",
                where=f"Phase {self.name!r}.inherits",
                got=sorted(unknown),
                expected=["weights", "optimizer"],
            )


@dataclass(frozen=True)
class Plan:
    """Phases in order, under one neighbouring relation.

    Args:
        phases: run one after the other; a stage may read those of its own and earlier phases.
        adjacency: which data sets are neighbours; part of the claim.

    Errors: `GrammarError` for a repeated phase name, a read that resolves to no stage, or
    private and non-private phases mixed.
    """

    phases: tuple[Phase, ...]
    adjacency: Adjacency = Adjacency.ADD_OR_REMOVE_ONE

    def __post_init__(self) -> None:
        if not self.phases:
            raise GrammarError("a plan needs at least one phase", where="Plan.phases")
        names = [phase.name for phase in self.phases]
        if len(set(names)) != len(names):
            raise GrammarError("two phases share a name", where="Plan.phases", got=names)
        known: set[str] = set()
        for phase in self.phases:
            known |= {n for p in phase.pipeline.placed for n in (p.slot, p.name)}
            for placed in phase.pipeline.placed:
                for name in reads_of(placed.stage):
                    if name not in known:
                        raise GrammarError(
                            f"it reads {name!r}, and no stage of this or an earlier phase "
                            "has that name",
                            where=f"Phase {phase.name!r}, {placed.slot}: {placed.name}",
                            got=name,
                            expected=f"one of {sorted(known)}",
                        )
        if len({phase.pipeline.private for phase in self.phases}) > 1:
            raise GrammarError(
                "a phase without noise makes the whole plan non-private",
                where="Plan.phases",
                got={p.name: p.pipeline.noiser.noise_multiplier for p in self.phases},
                remedy="Give every phase noise, or none of them.",
            )

    @property
    def private(self) -> bool:
        """Whether the plan claims anything."""
        return self.phases[0].pipeline.private

    @property
    def steps(self) -> int:
        """The steps of all phases together."""
        return sum(phase.steps for phase in self.phases)

    def event(self, sampler: PoissonSampler, charged: tuple[int, ...] | None = None) -> DpEvent:
        """The event of the plan, or of `charged` steps of each phase.

        This is the only source of the event that accountants read.
        """
        if not self.private:
            return NonPrivateDpEvent()
        counts = tuple(phase.steps for phase in self.phases) if charged is None else charged
        return ComposedDpEvent(
            [
                SelfComposedDpEvent(sampler.event(phase.pipeline.event()), count)
                for phase, count in zip(self.phases, counts, strict=True)
                if count
            ]
        )

    def scaled_noise(self, factor: float) -> Plan:
        """The same plan with every noise multiplier times `factor`."""
        return dataclasses.replace(
            self,
            phases=tuple(
                dataclasses.replace(phase, pipeline=phase.pipeline.scaled_noise(factor))
                for phase in self.phases
            ),
        )
