"""A pipeline: a grammar of stages, and not a list, checked when it is built."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from dpigu.dpcore.errors import GrammarError
from dpigu.dpcore.grammar.spaces import Space
from dpigu.dpcore.grammar.stages import (
    KINDS,
    Clipper,
    Endless,
    Factorisation,
    MaskScheduler,
    Noiser,
    Point,
    PostMap,
    Query,
    RowMap,
    Scorer,
    Stateful,
    Statistic,
    Subspace,
    Views,
    asks_of,
    kinds_of,
    name_of,
    reads_of,
)
from dpigu.dpcore.noise import LAWS

if TYPE_CHECKING:
    from dp_accounting import DpEvent


class Placed(NamedTuple):
    """A stage in its slot, under the name by which others may read it."""

    slot: str
    name: str
    stage: Any


RANGE = "a number from 2⁻²⁰⁰ to 2²⁰⁰"


def in_range(bound: float) -> bool:
    """Whether a bound is far from under- and overflow: the guard's squares would lose rows."""
    return 2.0**-200 <= bound <= 2.0**200


@dataclass(frozen=True)
class Pipeline:
    """One differentially private step, from a record's row to the released vector.

    The order is fixed: support, `rows`, support, `clipper`, sum, `noiser`, divide, `posts`.
    Nothing fits between the clipper and the noiser, and the noise is the noiser's multiplier
    times the clipper's bound: it cannot be calibrated to anything else.

    Args:
        clipper: from norms to factors, with the joint bound C.
        noiser: the noise and its multiplier; 0 makes the pipeline non-private.
        scorer: importance, learnt from released gradients.
        scheduler: the support at each step.
        subspace: directions that row maps may project to.
        views: augmented views of a record, averaged within it.
        statistic: what a record's row is, if not its gradient; then no weights are trained.
        point: where the gradient is taken, if not at the weights.
        factorisation: how the noise of a step is correlated with that of the steps before it;
            None for independent noise.
        rows: maps of one record's row, in order.
        posts: maps of the released vector, in order.
        queries: further bounded per-record statistics, noised jointly with the gradient.

    Errors: `GrammarError` for a stage of the wrong kind, one that is not frozen, a read that
    does not resolve, or noise without a finite bound.
    """

    clipper: Clipper
    noiser: Noiser
    scorer: Scorer | None = None
    scheduler: MaskScheduler | None = None
    subspace: Subspace | None = None
    views: Views | None = None
    statistic: Statistic | None = None
    point: Point | None = None
    factorisation: Factorisation | None = None
    rows: tuple[RowMap, ...] = ()
    posts: tuple[PostMap, ...] = ()
    queries: tuple[Query, ...] = ()

    def __post_init__(self) -> None:
        for slot in ("rows", "posts", "queries"):
            if not isinstance(stages := getattr(self, slot), tuple):
                raise GrammarError(
                    "this slot takes a tuple of stages, in order",
                    where=f"Pipeline.{slot}",
                    got=type(stages).__name__,
                    remedy=f"Write {slot}=(stage,), with the comma.",
                )
        for placed in self.placed:
            _check_kind(placed)
        for placed, before in zip(self.placed, self._names_before(), strict=True):
            _check_reads(placed, before, {n for p in self.placed for n in (p.slot, p.name)})
        for placed in self.placed:
            _check_asks(placed, {p.name for p in self.of("query")})
        if self.noiser.law not in LAWS:
            raise GrammarError(
                "the noiser names no law that the kernel can draw and account for",
                where="Pipeline.noiser",
                got=self.noiser.law,
                expected=f"one of {sorted(LAWS)}",
            )
        if not math.isfinite(self.noiser.noise_multiplier) or self.noiser.noise_multiplier < 0:
            raise GrammarError(
                "the noise multiplier must be finite and not negative",
                where="Pipeline.noiser",
                got=self.noiser.noise_multiplier,
            )
        if self.private and not isinstance(self.clipper, Stateful):
            bound = float(self.clipper.joint_bound({}))
            if not in_range(bound):
                raise GrammarError(
                    "noise cannot be calibrated: the clipper declares no finite bound in range",
                    where="Pipeline.clipper",
                    got=bound,
                    expected=RANGE,
                    remedy="Use a clipper with a bound, such as flat, or a noise multiplier of 0.",
                )
        if self.factorisation is not None:
            _check_factorisation(self.factorisation, self.clipper, self.scheduler)
            _check_endless(self)
        for query in self.queries:
            if not (in_range(query.bound) and 0 < query.noise_ratio < math.inf):
                raise GrammarError(
                    "a query needs a finite bound in range and a noise ratio above 0",
                    where=f"Pipeline.queries: {name_of(query)}",
                    got=f"bound {query.bound}, noise_ratio {query.noise_ratio}",
                    expected=RANGE,
                )

    @cached_property
    def placed(self) -> tuple[Placed, ...]:
        """Every stage in the order in which it starts; later ones may read earlier ones."""
        slots: list[tuple[str, object]] = [
            ("scorer", self.scorer),
            ("scheduler", self.scheduler),
            ("subspace", self.subspace),
            ("views", self.views),
            ("statistic", self.statistic),
            ("point", self.point),
            *(("row", stage) for stage in self.rows),
            ("clipper", self.clipper),
            *(("query", stage) for stage in self.queries),
            ("noiser", self.noiser),
            ("factorisation", self.factorisation),
            *(("post", stage) for stage in self.posts),
        ]
        seen: dict[str, int] = {}
        placed = []
        for slot, stage in slots:
            if stage is None:
                continue
            name = name_of(stage)
            seen[name] = seen.get(name, 0) + 1
            placed.append(Placed(slot, name if seen[name] == 1 else f"{name}.{seen[name]}", stage))
        return tuple(placed)

    def of(self, slot: str) -> tuple[Placed, ...]:
        """The stages in a slot."""
        return tuple(p for p in self.placed if p.slot == slot)

    def name_in(self, slot: str) -> str:
        """The name of the one stage in a slot."""
        (placed,) = self.of(slot)
        return placed.name

    @property
    def private(self) -> bool:
        """Whether noise is drawn at all."""
        return self.noiser.noise_multiplier > 0

    @property
    def bands(self) -> int:
        """b: a record joins at most one step in so many; 1 but for a factorisation."""
        return 1 if self.factorisation is None else self.factorisation.bands

    @property
    def endless(self) -> bool:
        """Whether a row is in the encoded sums of all later steps of the phase."""
        return isinstance(self.factorisation, Endless)

    def event(self) -> DpEvent:
        """The event of one release: gradient and queries as one joint Gaussian.

        z_eff = (Σ_k z_k⁻²)^(−1/2), with z for the gradient and z · noise_ratio_k for query k.
        """
        if not self.private:
            from dp_accounting import NonPrivateDpEvent  # slow to load: stages need no accountant

            return NonPrivateDpEvent()
        precision = 1.0 + sum(query.noise_ratio**-2 for query in self.queries)
        return LAWS[self.noiser.law].event(self.noiser.noise_multiplier / math.sqrt(precision))

    def scaled_noise(self, factor: float) -> Pipeline:
        """The same pipeline with its noise multiplier times `factor`."""
        multiplier = self.noiser.noise_multiplier * factor
        noiser = dataclasses.replace(self.noiser, noise_multiplier=multiplier)  # type: ignore[type-var]  # a Noiser is a frozen dataclass, which a protocol cannot say
        return dataclasses.replace(self, noiser=noiser)

    def row_space(self, parameters: Space, shape: tuple[int, ...]) -> Space:
        """The space of a record's row before the row maps: the parameters', or the statistic's."""
        if self.statistic is None:
            return parameters
        return self.statistic.row_space(parameters, shape)

    def check(self, space: Space) -> Space:
        """The space of the rows at the clipper; an error if the posts do not lead back."""
        output = space
        for stage in self.rows:
            output = stage.output_space(output)
        end = output
        for post in self.posts:
            end = post.output_space(end)
        if end != space:
            raise GrammarError(
                "the released vector does not end in the space of the parameters",
                where="Pipeline.posts",
                got=f"{end.size} coordinates",
                expected=f"{space.size} coordinates",
                remedy="Add the post map that leads back from the row maps' space.",
            )
        return output

    def _names_before(self) -> list[set[str]]:
        names: list[set[str]] = []
        for i in range(len(self.placed)):
            names.append({n for p in self.placed[:i] for n in (p.slot, p.name)})
        return names


def _check_kind(placed: Placed) -> None:
    stage, slot = placed.stage, placed.slot
    if isinstance(stage, type):
        raise GrammarError(
            "a stage is an instance, and this is its class",
            where=f"Pipeline.{slot}",
            got=stage.__name__,
            remedy=f"Write {stage.__name__}(...).",
        )
    if not isinstance(stage, KINDS[slot]):
        kinds = " or ".join(f"a {kind}" for kind in kinds_of(stage))
        raise GrammarError(
            f"this slot takes a {slot}",
            where=f"Pipeline.{slot}",
            got=f"{name_of(stage)}, which is {kinds or 'no stage'}",
            expected=slot,
            remedy="See the table of kinds in the documentation, or `dpigu stages`.",
        )
    if not is_frozen(type(stage)):
        raise GrammarError(
            "a stage must be a frozen dataclass, so that nothing can be kept in it",
            where=f"Pipeline.{slot}: {name_of(stage)}",
            remedy="Decorate the class with @dataclass(frozen=True, kw_only=True).",
        )


def _check_factorisation(
    factorisation: Factorisation, clipper: Clipper, scheduler: MaskScheduler | None
) -> None:
    """An error for stages beside which one record's part of the encoded sums has no bound, or
    which the decoder cannot follow."""
    if type(factorisation.bands) is not int or factorisation.bands < 1:
        raise GrammarError(
            "a factorisation has a whole number of bands, at least one",
            where="Pipeline.factorisation",
            got=factorisation.bands,
        )
    try:
        clipper.joint_bound({})
    except KeyError:
        raise GrammarError(
            "the bound of this clipper moves, and a row stays in the encoded sums of later steps, "
            "whose noise would then be of another bound",
            where="Pipeline.clipper",
            got=name_of(clipper),
            expected="a clipper with one bound for the whole phase, such as flat",
            remedy="Leave out the factorisation, or clip at a fixed bound.",
        ) from None
    if scheduler is not None and not scheduler.monotone:
        raise GrammarError(
            "a coordinate that leaves the support takes the noise along that later steps would "
            "cancel",
            where="Pipeline.scheduler",
            got=name_of(scheduler),
            expected="a scheduler whose support never loses a coordinate",
            remedy="Leave out the factorisation, or take such a scheduler.",
        )


def _check_endless(pipeline: Pipeline) -> None:
    """An error for a query beside rows whose turns are charged together: it has many answers."""
    if pipeline.endless and pipeline.queries:
        raise GrammarError(
            "all turns of a record are charged as one release here, and a query answers at each",
            where="Pipeline.queries",
            got=[name_of(query) for query in pipeline.queries],
            remedy="Leave out the query, or take a factorisation with bands.",
        )


def _check_reads(placed: Placed, before: set[str], anywhere: set[str]) -> None:
    for name in reads_of(placed.stage):
        if name in anywhere and name not in before:
            raise GrammarError(
                f"it reads {name!r}, which starts after it",
                where=f"Pipeline.{placed.slot}: {placed.name}",
                got=name,
                expected=f"one of {sorted(before)}",
            )


def _check_asks(placed: Placed, queries: set[str]) -> None:
    if missing := sorted(set(asks_of(placed.stage)) - queries):
        raise GrammarError(
            "it learns from a query that is not in the pipeline",
            where=f"Pipeline.{placed.slot}: {placed.name}",
            got=sorted(queries),
            expected=missing[0],
            remedy=f"Add {missing[0]} to the queries.",
        )


def is_frozen(cls: type) -> bool:
    """Whether a class is a dataclass whose instances cannot be assigned to."""
    params = getattr(cls, "__dataclass_params__", None)
    return dataclasses.is_dataclass(cls) and bool(params and params.frozen)
