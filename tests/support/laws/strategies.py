"""What the laws are drawn from: rows, batches, pipelines over every registered stage, states."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from dpigu.audits.conformance.check import example_of
from dpigu.dpcore import (
    AffineRowMap,
    Bounded,
    BoundPipeline,
    Clock,
    DenseRows,
    Driver,
    GrammarError,
    Kernel,
    NoiseSource,
    Phase,
    PhaseContext,
    Pipeline,
    Plan,
    PrivacyError,
    Reads,
    ReproducibleNoise,
    SelectiveUpdate,
    State,
    States,
    StepContext,
)
from dpigu.dpcore.grammar.spaces import Grouping
from dpigu.dpcore.grammar.stages import name_of, reads_of
from dpigu.dpcore.registry.entries import entries, lookup
from dpigu.dpcore.rows import UNIT_ROUNDOFF
from dpigu.mechanisms import AffineRestorer, Flat, Gaussian
from hypothesis import reject
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from torch import Tensor

from tests.support.zoo.wild_stages import SPACE, Mixed, Shifted, Unmixed, WildClipper

DTYPES = (torch.float64, torch.float32, torch.bfloat16)
WILD = (0.0, 5e-324, 1e-310, 2.0**-149, 1e-38, 1e-19, 1.0, 1e19, 1e38, 1e150, 1e300)
PADDED = 8
"""Microbatches are padded to one size, as the trainer does: libraries round products by shape."""
SHAPE = (2, 3, 2)
"""The shape of a made-up record, for stages that look at one."""
NOT_FINITE = (float("nan"), float("inf"), -float("inf"))
BOUNDS = (
    st.sampled_from((2.0**-200, 1e-30, 1e-23, 1e-20, 0.5, 1.0, 3.0, 1e30, 2.0**200))
    | st.floats(1e-6, 1e6)
    | st.floats(-200, 200).map(lambda exponent: 2.0**exponent)
)
GROUPINGS: tuple[Grouping, ...] = ("all", "parameter", "layer", "filter")

HUGE = st.floats(800, 1023).map(lambda exponent: 2.0**exponent)
"""Factors whose quotients by a bound come near the end of float64's range, and pass it."""

OPTIONS: dict[str, SearchStrategy[Any]] = {
    "bound": BOUNDS,
    "noise_multiplier": st.floats(0.01, 100),
    "ratio": st.floats(0.05, 1.0),
    "end": st.floats(0.05, 1.0),
    "levels": st.integers(2, 5),
    "gamma1": st.sampled_from((0.0, 0.5, 0.9)),
    "gamma2": st.sampled_from((0.0, 0.5, 0.999)),
    "mu": st.sampled_from((1e-8, 1.0)),
    "grouping": st.sampled_from(GROUPINGS),
    "refresh": st.integers(1, 2),
    "decay": st.sampled_from((0.0, 0.9)),
    "mean_decay": st.sampled_from((0.0, 0.5)),
    "certainty": st.sampled_from((0.0, 3.0)),
    "limit": st.sampled_from((1.0, 3.0, 1e6)),
    "weights": st.sampled_from(("equal", "dimension")),
}
"""Values for options of these names; other options keep their defaults."""


@cache
def registered(kind: str) -> tuple[type, ...]:
    """The built-in stages of a kind. A plugin's are its own suite's business."""
    found, broken = entries()
    ours = [error for error in broken if "/" not in error.where]
    assert not ours, ours
    return tuple(entry.stage for entry in found if entry.kind == kind and "/" not in entry.name)


@cache
def by_name(name: str) -> Any:
    """The registered stage of that name, with its default options."""
    return example_of(lookup(name))


@st.composite
def stages(draw: DrawFn, kind: str) -> Any:
    """Any registered stage of a kind, with drawn options."""
    cls = draw(st.sampled_from(registered(kind)))
    options = {}
    for field in dataclasses.fields(cls):
        if field.name in OPTIONS:
            options[field.name] = draw(OPTIONS[field.name])
        else:
            optional = (field.default, field.default_factory) != (dataclasses.MISSING,) * 2
            assert optional, f"add {cls.__name__}.{field.name} to OPTIONS in {__file__}"
    try:
        return cls(**options)
    except GrammarError:
        reject()


def wild_clippers() -> SearchStrategy[WildClipper]:
    """Clippers that try to break the guard."""
    return st.builds(
        WildClipper,
        bound=BOUNDS,
        groups=st.sampled_from(GROUPINGS),
        factor=st.sampled_from((*WILD, *NOT_FINITE, -1.0)) | HUGE,
        proportional=st.booleans(),
    )


def stays(stage: Any) -> bool:
    """Whether a row or post map gives vectors of the parameters' space for such vectors."""
    try:
        return bool(stage.output_space(SPACE) == SPACE)
    except GrammarError:
        return False


@cache
def codings() -> tuple[tuple[Any, Any], ...]:
    """Row maps to another space, each with the post map that leads back."""
    back = [by_name(cls.stage_name) for cls in registered("post")]
    found = [(by_name(reads_of(post)[0]), post) for post in back if not stays(post)]
    assert len(found) == sum(not stays(by_name(cls.stage_name)) for cls in registered("row"))
    return (*found, (Mixed(), Unmixed()))


@st.composite
def plans(
    draw: DrawFn,
    *,
    clippers: SearchStrategy[Any] | None = None,
    noisers: SearchStrategy[Any] | None = None,
    queries: SearchStrategy[Any] | None = None,
    factorisations: SearchStrategy[Any] | None = None,
    steps: int = 4,
) -> Plan:
    """Perhaps a phase that releases a statistic; one that learns scores; and one with a support,
    a subspace, views, a point, row maps and posts, whose updates may be looked at."""
    clipper = draw(clippers if clippers is not None else stages("clipper"))
    noiser = draw(noisers if noisers is not None else stages("noiser"))
    rows = stages("row").filter(stays) | st.just(Shifted())
    rows = draw(st.lists(rows, max_size=2, unique_by=name_of))
    posts = draw(st.lists(stages("post").filter(stays), max_size=1))
    if draw(st.booleans()):
        posts = [
            AffineRestorer(of=name_of(r)) for r in reversed(rows) if isinstance(r, AffineRowMap)
        ]
    if draw(st.integers(0, 3)) == 0:
        row, post = draw(st.sampled_from(codings()))
        rows, posts = [*rows, row], [post]
    wanted = {name for stage in (*rows, *posts) for name in reads_of(stage)}
    subspaces = stages("subspace") if "subspace" in wanted else st.none() | stages("subspace")
    asked = tuple(by_name(name) for name in getattr(clipper, "asks", ()))
    more = draw(st.lists(queries, max_size=2)) if queries is not None else []
    try:
        released = Pipeline(clipper, noiser, statistic=draw(stages("statistic")), queries=asked)
        before = Pipeline(clipper, noiser, scorer=draw(stages("scorer")), queries=asked)
        main = Pipeline(
            clipper,
            noiser,
            scheduler=draw(st.none() | stages("scheduler")),
            subspace=draw(subspaces),
            views=draw(st.none() | stages("views")),
            point=draw(st.none() | stages("point")),
            factorisation=None if factorisations is None else draw(factorisations),
            rows=tuple(rows),
            posts=tuple(posts),
            queries=(*asked, *more),
        )
        looks = st.builds(SelectiveUpdate, st.just(released), stages("decision"))
        last = Phase("main", main, steps, selective_update=draw(st.none() | looks))
        first = (Phase("statistic", released, 1),) if draw(st.booleans()) else ()
        plan = Plan((*first, Phase("before", before, 2), last))
    except GrammarError:
        reject()
    if not plan.private:
        reject()
    return plan


def begun(phase: Phase, earlier: Reads, seed: int) -> tuple[BoundPipeline, States]:
    """A phase at its start, at made-up weights and public gradients."""
    space = phase.pipeline.row_space(SPACE, SHAPE)
    pipeline = BoundPipeline(phase.pipeline, space, earlier)
    weights_D = torch.from_numpy(np.random.default_rng(seed).standard_normal(SPACE.size))
    context = PhaseContext(space, weights_D, phase.steps, seed, public_MD(seed))
    return pipeline, pipeline.begin(context)


def public_MD(*seed: int) -> Tensor:
    """The gradients of four public records."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((4, SPACE.size)))


class Watched(Kernel):
    """The kernel, with its guarded sums kept for the law to look at before noise hides them."""

    bounded: list[Bounded]

    def _bounded(self, value: Tensor, bound: Tensor) -> Bounded:
        made = super()._bounded(value, bound)
        self.bounded.append(made)
        return made


@dataclass(frozen=True)
class Opened:
    """A phase at one step: its stages, their states, and what is public before the step."""

    pipeline: BoundPipeline
    states: States
    context: StepContext

    def rows(self, g_BD: Tensor) -> DenseRows:
        """The rows that these gradients have here."""
        padding_BD = g_BD.new_zeros(max(0, PADDED - len(g_BD)), g_BD.shape[1])
        z_BK = self.context.transform(torch.cat([g_BD, padding_BD]))[: len(g_BD)]
        return DenseRows(z_BK, *self.pipeline.groups)

    def pieces(self, g_BD: Tensor, size: int) -> list[DenseRows]:
        """The rows in microbatches of this size; none for an empty batch."""
        return [self.rows(piece) for piece in g_BD.split(size) if len(piece)]

    def kernel(
        self, *, noise: NoiseSource | None = None, expected_batch: float = 4.0, largest: int = 8
    ) -> Watched:
        """A kernel whose engine sums up to `largest` dense rows at a time."""
        kernel = Watched(
            self.pipeline,
            expected_batch=expected_batch,
            relative_error=largest * UNIT_ROUNDOFF,
            noise=noise if noise is not None else ReproducibleNoise(0),
        )
        kernel.bounded = []
        return kernel

    def guarded_sums(self, g_BD: Tensor, size: int) -> list[Bounded]:
        """The sums of a batch with their sensitivities: the gradient's, then each query's."""
        kernel = self.kernel()
        kernel.release(self.states, self.context, self.pieces(g_BD, size))
        return kernel.bounded


def opened(plan: Plan, step: int = 0, seed: int = 0) -> Opened:
    """The plan's last phase before a step, every earlier release made of noise alone."""
    noise = ReproducibleNoise(seed)
    earlier: Reads = {}
    for phase in plan.phases:
        pipeline, states = begun(phase, earlier, seed)
        last = phase is plan.phases[-1]
        driver = Driver(pipeline, expected_batch=2.0, relative_error=0.0, noise=noise)
        for t in range(step if last else phase.steps):
            opened = driver.open(states, Clock(t, phase.steps), public_MD(seed, t))
            _, states = opened.release([])
        earlier = pipeline.views(states)
    return Opened(pipeline, states, pipeline.open(states, Clock(step, plan.phases[-1].steps)))


@st.composite
def steps(draw: DrawFn, *, wild: bool = False, **options: Any) -> Opened:
    """Any plan's main phase at any step; `wild` also puts anything at all into the states."""
    plan = draw(plans(**options))
    here = opened(plan, draw(st.integers(0, plan.phases[-1].steps - 1)), draw(st.integers(0, 99)))
    if not wild or draw(st.booleans()):
        return here
    values = st.lists(st.sampled_from((*WILD, *NOT_FINITE, -1.0)), min_size=1, max_size=3)
    states: dict[str, State] = {}
    for name, state in here.states.items():
        states[name] = {key: _replaced(t, draw(values)) for key, t in state.items()}
    try:
        here.pipeline.bound(states)
    except PrivacyError:  # a clipper's state that no noise can be calibrated to: refused
        reject()
    return Opened(here.pipeline, states, here.pipeline.open(states, here.context.clock))


def _replaced(tensor: Tensor, values: Sequence[float]) -> Tensor:
    """A tensor of the same shape made of these values; one that is not real stays."""
    if not tensor.is_floating_point():
        return tensor
    repeated = torch.tensor(values, dtype=tensor.dtype).repeat(tensor.numel() // len(values) + 1)
    return repeated[: tensor.numel()].reshape(tensor.shape)


@st.composite
def batches(
    draw: DrawFn,
    *,
    min_size: int = 0,
    max_size: int = 6,
    size: int = SPACE.size,
    dtypes: Sequence[torch.dtype] = DTYPES,
    wild: bool = True,
) -> Tensor:
    """Gradients g_BD of any scale and dtype; `wild` ones have entries that are not finite."""
    count = draw(st.integers(min_size, max_size))
    normal = np.random.default_rng(draw(st.integers(0, 999))).standard_normal((count, size))
    g_BD = torch.from_numpy(normal)
    if wild:
        for i in range(count):
            g_BD[i] *= draw(st.sampled_from(WILD))
            for value in draw(st.lists(st.sampled_from((*WILD, *NOT_FINITE)), max_size=2)):
                g_BD[i, draw(st.integers(0, size - 1))] = value
    return g_BD.to(draw(st.sampled_from(tuple(dtypes))))


def dpsgd(*, bound: float = 1.0, noise_multiplier: float = 1.0, **options: Any) -> Plan:
    """The plainest plan, for laws about the kernel alone."""
    noiser = Gaussian(noise_multiplier=noise_multiplier)
    return Plan((Phase("main", Pipeline(Flat(bound=bound), noiser, **options), 4),))
