"""A plan: phases in order, what each hands on, and the one event that is charged."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dpigu.dpcore.adjacency import Adjacency
from dpigu.dpcore.errors import GrammarError
from dpigu.dpcore.grammar.pipeline import Pipeline
from dpigu.dpcore.grammar.stages import Decision, name_of, reads_of
from dpigu.dpcore.sampling import PoissonSampler

if TYPE_CHECKING:
    from dp_accounting import DpEvent

Inherited = Literal["weights", "optimizer"]
SLOTS = ("", ".selective_update")
"""Where the pipelines of a step stand, after the name of its phase."""


@dataclass(frozen=True)
class SelectiveUpdate:
    """A look at every update, on a sample of its own, that decides whether it is kept.

    The look is a release like any other, of a statistic of each record, and is charged for
    every step, kept or not. A refused update is taken back: weights and the optimizer's state
    are what they were; stages keep what they learnt from its release.

    Args:
        pipeline: releases a statistic of the records, with the update in place.
        decision: reads what was released.
        rate: the sampling rate of the look; None takes a share of the plan's.
        share: that share, in (0, 1].

    Source: the selective update of Fu et al., DPSUR (arXiv 2311.14056), every look charged.
    """

    pipeline: Pipeline
    decision: Decision
    rate: float | None = None
    share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise GrammarError(
                "a look samples at a share of the plan's rate",
                where="SelectiveUpdate.share",
                got=self.share,
                expected="a number in (0, 1]",
            )
        if self.pipeline.statistic is None:
            raise GrammarError(
                "a selective update releases a statistic, and its pipeline has none",
                where="SelectiveUpdate.pipeline",
                remedy="Give it one, such as statistic=LossChange().",
            )
        if not isinstance(self.decision, Decision):
            raise GrammarError(
                "a selective update needs a decision",
                where="SelectiveUpdate.decision",
                got=name_of(self.decision),
            )

    def sampler(self, sampler: PoissonSampler) -> PoissonSampler:
        """How the look samples, beside how the steps do."""
        rate = self.rate if self.rate is not None else self.share * sampler.rate
        return PoissonSampler(rate, sampler.records)


@dataclass(frozen=True)
class Phase:
    """A pipeline run for a number of steps.

    Args:
        name: unique in the plan; other phases' stages are read by their own names.
        pipeline: what each step does.
        steps: how many steps.
        inherits: what it takes over from the phase before: "weights" (else the initial ones)
            and "optimizer" (its state, else a fresh one). Stage states are always readable.
        selective_update: decides whether each update is kept; None keeps them all.
    """

    name: str
    pipeline: Pipeline
    steps: int
    inherits: tuple[Inherited, ...] = ("weights", "optimizer")
    selective_update: SelectiveUpdate | None = None

    @property
    def pipelines(self) -> tuple[Pipeline, ...]:
        """The pipelines of one step: its own, and the selective update's."""
        if self.selective_update is None:
            return (self.pipeline,)
        return (self.pipeline, self.selective_update.pipeline)

    @property
    def period(self) -> int:
        """How many steps one event pays for: one; the bands of a factorisation, in which a record
        joins at most one step and is in the encoded sums of all of them; or all, if it has no end.
        """
        return self.steps if self.pipeline.endless else self.pipeline.bands

    def sampler(self, sampler: PoissonSampler) -> PoissonSampler:
        """How its steps sample: as the plan's do, where records take turns in as many blocks."""
        return dataclasses.replace(sampler, blocks=self.pipeline.bands)

    def event(self, sampler: PoissonSampler) -> DpEvent:
        """The event of `period` steps: of one, its release, and the look at it on a sample of its
        own; in a factorisation, one sampled Gaussian; if that has no end, one that is not sampled,
        since a record has several turns in it.

        Source: Choquette-Choo et al. 2023 (arXiv 2306.08153), Theorem 4.
        """
        turns, event = self.sampler(sampler), self.pipeline.event()
        event = event if self.pipeline.endless else turns.event(event)
        if (selective := self.selective_update) is None:
            return event
        from dp_accounting import ComposedDpEvent

        deciding = selective.sampler(sampler).event(selective.pipeline.event())
        return ComposedDpEvent([event, deciding])

    def scaled_noise(self, factor: float) -> Phase:
        """The same phase with its noise multipliers times `factor`."""
        selective_update = self.selective_update
        if selective_update is not None:
            selective_update = dataclasses.replace(
                selective_update, pipeline=selective_update.pipeline.scaled_noise(factor)
            )
        return dataclasses.replace(
            self, pipeline=self.pipeline.scaled_noise(factor), selective_update=selective_update
        )

    def __post_init__(self) -> None:
        if type(self.steps) is not int or self.steps < 1:
            raise GrammarError(
                "a phase needs a whole number of steps, at least one",
                where=f"Phase {self.name!r}",
                got=self.steps,
            )
        unknown = set(self.inherits) - {"weights", "optimizer"}
        if unknown:
            raise GrammarError(
                "a phase can inherit weights and optimizer",
                where=f"Phase {self.name!r}.inherits",
                got=sorted(unknown),
                expected=["weights", "optimizer"],
            )
        if self.selective_update is not None and self.pipeline.factorisation is not None:
            raise GrammarError(
                "correlated noise is cancelled by later steps, and an update that is taken back "
                "leaves them nothing to cancel",
                where=f"Phase {self.name!r}.selective_update",
                remedy="Leave out the selective update, or the factorisation.",
            )
        if self.selective_update is not None and self.pipeline.statistic is not None:
            raise GrammarError(
                "a phase that releases a statistic trains no weights, so there is no update "
                "to look at",
                where=f"Phase {self.name!r}.selective_update",
                remedy="Leave out the selective update, or the statistic.",
            )


@dataclass(frozen=True)
class Plan:
    """Phases in order, under one neighbouring relation.

    Args:
        phases: run one after the other; a stage may read those of its own and earlier phases.
        adjacency: which data sets are neighbours; part of the claim.

    Errors: `GrammarError` for a repeated phase name, a read that resolves to no stage, or
    private and non-private phases mixed.

    Examples:
        >>> import dpigu
        >>> pipeline = dpigu.Pipeline(clipper=dpigu.Flat(bound=1.0), noiser=dpigu.Gaussian())
        >>> Plan((dpigu.Phase("main", pipeline, 100),)).steps
        100
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
            placed_here = [p for pipeline in phase.pipelines for p in pipeline.placed]
            known |= {n for p in placed_here for n in (p.slot, p.name)}
            for placed in placed_here:
                for name in reads_of(placed.stage):
                    if name not in known:
                        raise GrammarError(
                            f"it reads {name!r}, and no stage of this or an earlier phase "
                            "has that name",
                            where=f"Phase {phase.name!r}, {placed.slot}: {placed.name}",
                            got=name,
                            expected=f"one of {sorted(known)}",
                        )
        if len({p.private for phase in self.phases for p in phase.pipelines}) > 1:
            raise GrammarError(
                "a phase without noise makes the whole plan non-private",
                where="Plan.phases",
                got={
                    phase.name + slot: pipeline.noiser.noise_multiplier
                    for phase in self.phases
                    for slot, pipeline in zip(SLOTS, phase.pipelines, strict=False)
                },
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
        from dp_accounting import ComposedDpEvent, NonPrivateDpEvent, SelfComposedDpEvent

        if not self.private:
            return NonPrivateDpEvent()
        counts = tuple(phase.steps for phase in self.phases) if charged is None else charged
        return ComposedDpEvent(
            [
                SelfComposedDpEvent(phase.event(sampler), math.ceil(count / phase.period))
                for phase, count in zip(self.phases, counts, strict=True)
                if count
            ]
        )

    def scaled_noise(self, factor: float) -> Plan:
        """The same plan with every noise multiplier times `factor`."""
        return dataclasses.replace(
            self, phases=tuple(phase.scaled_noise(factor) for phase in self.phases)
        )
