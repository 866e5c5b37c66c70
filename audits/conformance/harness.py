"""The test harness: a stage in a pipeline of its kind, run by a real kernel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from dpigu.audits.conformance.check import Refused, Subject, example_of, kind_of
from dpigu.audits.conformance.scenario import SHAPE, Scenario
from dpigu.dpcore import (
    BoundPipeline,
    Clock,
    DpiguError,
    Driver,
    OpenStep,
    PhaseContext,
    Pipeline,
    PrivacyError,
    Reads,
    Release,
    Released,
    ReproducibleNoise,
    Space,
    State,
    Stateful,
)
from dpigu.dpcore.grammar.stages import KINDS, name_of, reads_of
from dpigu.dpcore.registry import KIND_OF, lookup
from dpigu.mechanisms import (
    Flat,
    Gaussian,
    GroupStandardizer,
    LinearUnfreeze,
    MaskedWeights,
    ReleasedSubspace,
)
from torch import Tensor

LOUD = 2.0**33
"""A noise multiplier that hides a sum of 32 rows below half a step of the noise's grid, which is at
least 2⁻²⁷ of the deviation. Much larger ones take longer: more draws lie near a boundary."""


class Harness:
    """A stage in a pipeline of its kind, begun in a scenario and run by a real kernel.

    Args:
        subject: the stage, with what it needs beside it. What it names in `reads` is added:
            a scorer by its own name as one that an earlier phase trained.
        scenario: the situation.
        loud: noise so large that the released values do not depend on the rows, bit for bit.

    Errors: `Refused` if the stage does not accept the scenario.
    """

    def __init__(self, subject: Subject, scenario: Scenario, *, loud: bool = False) -> None:
        self.stage, self.kind, self.scenario = subject.stage, subject.kind, scenario
        earlier, beside = _companions(subject)
        try:
            context = scenario.context()
            stages = _pipeline(subject, beside, scenario.space, loud)
            space = stages.row_space(scenario.space, SHAPE)
            self.pipeline = BoundPipeline(stages, space, _trained(earlier, scenario))
            self.states = self.pipeline.begin(context)
        except PrivacyError:
            raise
        except DpiguError as refusal:
            raise Refused(str(refusal)) from refusal
        self._driver = Driver(
            self.pipeline,
            expected_batch=4.0,
            relative_error=0.0,
            noise=ReproducibleNoise(scenario.seed),
        )
        self._placed = next((p for p in stages.placed if p.stage is self.stage), None)
        self.done = 0
        self.last: Release

    @property
    def state(self) -> State:
        """The stage's own state; none for a decision, which stands in no pipeline."""
        return self.states[self._placed.name] if self._placed is not None else {}

    @property
    def reads(self) -> Reads:
        """What the stage sees of the others."""
        return self.pipeline.reads(self._placed, self.states) if self._placed is not None else {}

    @property
    def clock(self) -> Clock:
        """The next step; the last one again when the phase is over."""
        return Clock(min(self.done, self.scenario.steps - 1), self.scenario.steps)

    @property
    def input_space(self) -> Space:
        """The space of the vectors that a row or post map is given."""
        space = self.pipeline.space
        for placed in self.pipeline.stages.placed:
            if placed is self._placed:
                break
            if placed.slot in ("row", "post"):
                space = placed.stage.output_space(space)
        return space

    @property
    def groups(self) -> int:
        """G, how many norms the clipper sees."""
        return self.pipeline.groups[1]

    def opened(self) -> OpenStep:
        """The next step, before its rows."""
        scenario = self.scenario
        opened = self._driver.open(self.states, self.clock)
        return opened.showing(scenario.public_MD(self.done), scenario.context().weights_D)

    def step(self, g_BD: Tensor | None = None) -> Release:
        """One step of the kernel, on these gradients or on the scenario's."""
        opened = self.opened()
        if g_BD is None:
            g_BD = self.scenario.rows(self.done, size=self.pipeline.space.size)
        self.last, self.states = opened.release(opened.dense(g_BD))
        self.done += 1
        return self.last

    def run(self) -> Harness:
        """Every step of the phase, on the scenario's rows."""
        for _ in range(self.scenario.steps):
            self.step()
        return self

    def show_records(self, *parts: object) -> None:
        """Show private records to every function of the stage that may see one."""
        scenario = self.scenario
        if self.kind == "row":
            g_BD = scenario.rows("shown", *parts, size=self.input_space.size)
            for g_D in g_BD:
                self.stage.row(self.state, g_D)
            torch.func.vmap(partial(self.stage.row, self.state))(g_BD)
        if self.kind in ("statistic", "views"):
            torch.func.vmap(self.one, randomness="different")(*scenario.records("shown", *parts))
        norms_BG = scenario.rows("shown", *parts, size=self.groups).abs().to(torch.float64)
        if self.kind == "clipper":
            for norms_G in norms_BG:
                self.stage.factors(self.state, norms_G)
        if self.kind == "query":
            for norms_G in norms_BG:
                self.stage.vector(self.state, norms_G, self.reads)

    def one(self, x: Tensor, y: Tensor) -> Tensor:
        """What a statistic makes of one record, or its views."""
        made: Tensor
        if self.kind == "views":
            made = self.stage.views(x)
        else:
            made = self.stage.row_of(self.state, self.scenario.record(x, y))
        return made


def each_step(subject: Subject, scenario: Scenario) -> Iterator[Harness]:
    """One harness, at the start of its phase and after each of its steps."""
    harness = Harness(subject, scenario)
    yield harness
    for _ in range(scenario.steps):
        harness.step()
        yield harness


@dataclass(frozen=True, kw_only=True)
class _Learner:
    """A scorer for stages that read one: distinct scores from the start, and it learns."""

    def init(self, context: PhaseContext, reads: Reads) -> State:
        return {"total_D": torch.arange(1.0, context.space.size + 1, dtype=torch.float64)}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        return {"total_D": state["total_D"] + 10 * release.gradient.value}

    def score(self, state: State) -> Tensor:
        return state["total_D"].abs()


@dataclass(frozen=True, kw_only=True)
class _Back:
    """A post map that leads any vector back to the parameters' space: cut, or filled with 0."""

    space: Space

    def output_space(self, space: Space) -> Space:
        return self.space

    def apply(self, state: State, released: Released, reads: Reads) -> Released:
        def fit(x_K: Tensor) -> Tensor:
            missing = max(0, self.space.size - len(x_K))
            return torch.cat([x_K, x_K.new_zeros(missing)])[: self.space.size]

        return released.derive(fit(released.value), fit(released.variance))


_SLOT_COMPANIONS: dict[str, Any] = {
    "scorer": _Learner(),
    "scheduler": LinearUnfreeze(),
    "subspace": ReleasedSubspace(),
    "point": MaskedWeights(),
    "row": GroupStandardizer(),
    "clipper": Flat(bound=1.0),
    "noiser": Gaussian(),
}


def _companions(subject: Subject) -> tuple[list[Any], list[Any]]:
    """What the stage names in `reads`, trained in an earlier phase or beside it; and the queries
    that it names in `asks`."""
    earlier: list[Any] = []
    beside = list(subject.beside)
    given = {name_of(stage) for stage in beside}
    asked = [name for name in getattr(subject.stage, "asks", ()) if name not in given]
    beside += [example_of(lookup(name)) for name in asked]
    itself = (subject.kind, name_of(subject.stage))
    wanted = list(reads_of(subject.stage))
    for stage in beside:
        wanted += [name for name in reads_of(stage) if name not in itself]
    seen: set[str] = {n for s in beside for n in (kind_of(s), name_of(s))}
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        stage = _SLOT_COMPANIONS[name] if name in _SLOT_COMPANIONS else example_of(lookup(name))
        wanted += reads_of(stage)
        trained = name not in KINDS and kind_of(stage) == "scorer"
        (earlier if trained else beside).insert(0, stage)
    return earlier, beside


def _trained(scorers: Sequence[Any], scenario: Scenario) -> Reads:
    """Scorers as an earlier phase of three steps leaves them."""
    views: Reads = {}
    for scorer in scorers:
        harness = Harness(Subject(scorer), scenario)
        for _ in range(3):
            harness.step()
        views = {**views, **harness.pipeline.views(harness.states)}
    return views


def _pipeline(subject: Subject, beside: Sequence[Any], space: Space, loud: bool) -> Pipeline:
    """The stage in its slot with its companions, and the plainest stages in the rest."""
    slots: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    for stage in (*beside, subject.stage):
        slots[kind_of(stage)].append(stage)
    if not slots["clipper"]:
        slots["clipper"] = [Flat(bound=2.0**-14 / LOUD if loud else 1.0)]
    (clipper,) = slots["clipper"]
    private = isinstance(clipper, Stateful) or math.isfinite(float(clipper.joint_bound({})))
    if not slots["noiser"]:
        multiplier = (LOUD if loud else 1.0) if private else 0.0
        slots["noiser"] = [Gaussian(noise_multiplier=multiplier)]
    for stage in slots["statistic"]:
        space = stage.row_space(space, SHAPE)
    end = space
    for stage in (*slots["row"], *slots["post"]):
        end = stage.output_space(end)
    if end != space:
        slots["post"].append(_Back(space=space))
    filled: dict[str, Any] = {
        slot: tuple(slots[kind]) if slot != kind else next(iter(slots[kind]), None)
        for slot, kind in KIND_OF.items()
    }
    return Pipeline(**filled)
