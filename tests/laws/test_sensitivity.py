"""Sensitivity: one record moves every guarded sum by no more than is declared.

(a) Every guarded row and query vector has norm ≤ bound in exact arithmetic.
(b) ‖sum(batch) − sum(batch ± record)‖ ≤ the declared sensitivity, float summation included.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import pytest
import torch
from dpigu.dpcore import (
    BoundPipeline,
    Clock,
    DenseRows,
    GrammarError,
    Kernel,
    Phase,
    PhaseContext,
    Pipeline,
    Plan,
    PrivacyError,
    Space,
    kernel,
)
from dpigu.dpcore.grammar.stages import KINDS, name_of
from dpigu.dpcore.rows import UNIT_ROUNDOFF
from dpigu.dpcore.sampling import max_batch
from dpigu.mechanisms import Flat, Gaussian, Unclipped
from hypothesis import Phase as Part
from hypothesis import find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from torch import Tensor

from tests.support.exact import exact_distance_square, exact_square, same_release
from tests.support.laws.strategies import (
    BOUNDS,
    DTYPES,
    HUGE,
    NOT_FINITE,
    WILD,
    Opened,
    batches,
    dpsgd,
    opened,
    plans,
    registered,
    stages,
    steps,
    wild_clippers,
)
from tests.support.zoo.wild_stages import WildClipper, WildQuery

pytestmark = pytest.mark.numerical

QUERIES = st.builds(
    WildQuery,
    bound=BOUNDS,
    factor=st.sampled_from((*WILD, *NOT_FINITE)) | HUGE,
    noise_ratio=st.just(2.0),
)
FACTORISATIONS = st.none() | stages("factorisation")
STEPS = steps(
    wild=True,
    clippers=stages("clipper") | wild_clippers(),
    queries=QUERIES,
    factorisations=FACTORISATIONS,
)


def registered_stages() -> list[type]:
    """Every built-in stage that a plan can hold beside noise, and the one it cannot."""
    return [cls for kind in KINDS for cls in registered(kind)]


def law_joint_norm_is_an_upper_bound(v_BG: Tensor) -> None:
    """√Σ v² ≤ joint_norm(v), and not by more than its rounding."""
    for v_G, norm in zip(v_BG, kernel.joint_norm(v_BG).tolist(), strict=True):
        square = exact_square(v_G)
        assert square <= Fraction(norm) ** 2 <= square * (1 + Fraction(1, 2**40))


def law_capped_norm_is_within_the_bound(norm: float, bound: float) -> None:
    """capped(n, C) · n ≤ C exactly, also after two more roundings; and 1 − 2⁻⁵⁰ below C."""
    pair = (torch.tensor([x], dtype=torch.float64) for x in (norm, bound))
    factor = Fraction(float(kernel.capped(*pair)))
    assert factor * Fraction(norm) * (1 + Fraction(1, 2**52)) <= Fraction(bound)
    assert norm > bound or factor == 1 - Fraction(1, 2**50)
    assert factor == 0 or factor >= Fraction(1, 2**900)


def law_guarded_row(here: Opened, g_BD: Tensor) -> None:
    """√Σ_g (c_g ‖z_g‖)² ≤ C exactly, and a row that is not finite has factor 0."""
    rows = here.rows(g_BD)
    pipeline = here.pipeline.stages
    bound = here.pipeline.bound(here.states)
    state = here.states[pipeline.name_in("clipper")]
    norms_BG = rows.norm_upper_bounds()
    c_BG, good_B = kernel.guarded_factors(pipeline.clipper, state, norms_BG, bound)
    assert bool(c_BG.isfinite().all())
    groups_K = here.pipeline.output.groups(pipeline.clipper.groups)
    for z_K, c_G, norms_G, good in zip(rows.z_BK, c_BG, norms_BG, good_B, strict=True):
        if not bool(good):
            assert not c_G.any()
        if not bool(z_K.isfinite().all()):
            assert not bool(good) and not c_G.any()
            continue
        total = Fraction(0)
        for g, (c, norm) in enumerate(zip(c_G.tolist(), norms_G.tolist(), strict=True)):
            square = exact_square(z_K[groups_K == g])
            assert norm == torch.inf or square <= Fraction(norm) ** 2, "a norm is too small"
            total += Fraction(c) ** 2 * square
        assert total <= Fraction(float(bound)) ** 2, "a guarded row is longer than the bound"


def law_guarded_query(here: Opened, g_BD: Tensor) -> None:
    """A query's vectors are within its bound exactly, and 0 for a record that is not valid."""
    pipeline, states = here.pipeline.stages, here.states
    norms_BG = here.rows(g_BD).norm_upper_bounds()
    good_B = norms_BG.isfinite().all(1)
    for placed in pipeline.of("query"):
        q_BQ = kernel.guarded_vectors(
            placed, states[placed.name], here.pipeline, states, norms_BG, good_B
        )
        assert not q_BQ[~good_B].any()
        for q_Q in q_BQ:
            assert exact_square(q_Q) <= Fraction(placed.stage.bound) ** 2


def law_sensitivity(here: Opened, g_BD: Tensor, at: int, one: int, other: int) -> None:
    """Adding or removing a record moves every sum by at most its declared sensitivity."""
    at = at % len(g_BD)
    without_BD = torch.cat([g_BD[:at], g_BD[at + 1 :]])
    pairs = zip(here.guarded_sums(g_BD, one), here.guarded_sums(without_BD, other), strict=True)
    for with_it, without in pairs:
        assert torch.equal(with_it.sensitivity, without.sensitivity)
        limit = Fraction(float(with_it.sensitivity)) ** 2
        assert bool(with_it.value.isfinite().all())
        assert exact_distance_square(with_it.value, without.value) <= limit


FACTORS = batches(min_size=1, size=7, dtypes=(torch.float64,), wild=False)
NORMS = st.floats(1e-140, 1e140) | HUGE


@given(v_BG=FACTORS)
def test_the_joint_norm_is_an_upper_bound(v_BG: Tensor) -> None:
    law_joint_norm_is_an_upper_bound(v_BG)


@given(norm=NORMS, bound=BOUNDS)
def test_a_capped_norm_is_within_the_bound(norm: float, bound: float) -> None:
    law_capped_norm_is_within_the_bound(norm, bound)


@given(here=STEPS, g_BD=batches())
def test_every_guarded_row_is_within_the_bound_exactly(here: Opened, g_BD: Tensor) -> None:
    law_guarded_row(here, g_BD)


@given(here=STEPS, g_BD=batches(min_size=1))
def test_every_guarded_query_is_within_its_bound_exactly(here: Opened, g_BD: Tensor) -> None:
    law_guarded_query(here, g_BD)


MOVES = {
    "here": STEPS,
    "g_BD": batches(min_size=1),
    "at": st.integers(0, 5),
    "one": st.integers(1, 7),
    "other": st.integers(1, 7),
}


@given(**MOVES)
def test_one_record_moves_a_sum_by_at_most_the_sensitivity(
    here: Opened, g_BD: Tensor, at: int, one: int, other: int
) -> None:
    law_sensitivity(here, g_BD, at, one, other)


def law_a_factor_keeps_the_bound(factor: float, bound: float, norm: float) -> None:
    """|c'| · n ≤ C exactly for the guarded factor c' of any factor, bound and norm."""
    clipper = WildClipper(bound=bound, groups="all", factor=factor, proportional=False)
    norms_BG, C = (torch.tensor(x, dtype=torch.float64) for x in ([[norm]], bound))
    c_BG, _ = kernel.guarded_factors(clipper, {}, norms_BG, C)
    assert abs(Fraction(float(c_BG))) * Fraction(norm) <= Fraction(bound)


ANY_NORM = st.floats(0, 1.7e308) | st.floats(-500, 1023.9).map(lambda x: 2.0**x) | st.just(1e300)
ANY_FACTOR = st.sampled_from(WILD) | HUGE | st.floats(-1074, 1023.9).map(lambda x: 2.0**x)


@given(factor=ANY_FACTOR, bound=BOUNDS, norm=ANY_NORM)
def test_a_factor_keeps_the_bound(factor: float, bound: float, norm: float) -> None:
    law_a_factor_keeps_the_bound(factor, bound, norm)


@pytest.mark.parametrize("factor", [1e300, 2.0**1023, 2.0**870, 1e-310, 5e-324])
@pytest.mark.parametrize("bound", [1e-20, 1e-23, 3e-24, 2.0**-200, 1.0, 2.0**200])
@pytest.mark.parametrize("norm", [1.0, 2.0**-100, 1e300])
def test_quotients_and_products_that_underflow_clip_to_nothing(
    factor: float, bound: float, norm: float
) -> None:
    """At 1e300 and a bound of 1e-20 the quotient has two bits left; at 1e-23 it was twice C."""
    law_a_factor_keeps_the_bound(factor, bound, norm)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [300_000, 1])
def test_the_guard_holds_for_any_number_of_coordinates(size: int, dtype: torch.dtype) -> None:
    """Long rows are where summing squares rounds most."""
    draw = torch.Generator().manual_seed(size)
    for scale in (1e-30, 1.0, 1e30):
        z_BK = (scale * torch.randn(2, size, generator=draw, dtype=torch.float64)).to(dtype)
        rows = DenseRows(z_BK)
        norms_BG = rows.norm_upper_bounds()
        bound = torch.tensor(1.0, dtype=torch.float64)
        c_BG, _ = kernel.guarded_factors(Flat(bound=1.0), {}, norms_BG, bound)
        for z_K, c, norm in zip(z_BK, c_BG[:, 0].tolist(), norms_BG[:, 0].tolist(), strict=True):
            square = exact_square(z_K)
            assert square <= Fraction(norm) ** 2 <= square * (1 + Fraction(size + 9, 2**51))
            assert Fraction(c) ** 2 * square <= 1


@pytest.mark.parametrize("count", [1, 33, 200])
def test_sums_of_many_equal_records_stay_within_the_margin(count: int) -> None:
    """All errors of summation point one way here."""
    space = Space.flat("one", 3)
    stages = Pipeline(clipper=Flat(bound=0.1), noiser=Gaussian())
    pipeline = BoundPipeline(stages, space)
    states = pipeline.begin(PhaseContext(space, torch.zeros(3), 1, 0))
    here = Opened(pipeline, states, pipeline.open(states, Clock(0, 1)))
    g_BD = torch.full((count + 1, 3), 0.7, dtype=torch.float64)
    sums = []
    for rows in (g_BD, g_BD[1:]):
        found = here.kernel(expected_batch=float(count), largest=7)
        found.release(states, here.context, here.pieces(rows, 7))
        sums.append(found.bounded[0])
    moved = exact_distance_square(sums[0].value, sums[1].value)
    assert moved <= Fraction(float(sums[0].sensitivity)) ** 2


def test_the_declared_sensitivity_is_the_bound_and_a_small_margin() -> None:
    """C · (1 + 2M(e + M·2⁻⁵³)): not so large that (b) would hold of itself."""
    here = opened(dpsgd(bound=3.0))
    (made,) = here.guarded_sums(torch.zeros(0, 24), 8)
    most = max_batch(4.0)
    margin = 2 * most * (8 * UNIT_ROUNDOFF + most * UNIT_ROUNDOFF)
    assert float(made.sensitivity) == 3.0 * (1 + margin)
    assert margin < 1e-10


def test_a_batch_beyond_the_margin_is_refused() -> None:
    here = opened(dpsgd())
    rows = torch.zeros(max_batch(4.0) + 1, 24)
    with pytest.raises(PrivacyError, match="more rows than the rounding margin allows"):
        here.guarded_sums(rows, 50)
    here.guarded_sums(rows[1:], 50)


@given(here=STEPS)
def test_an_empty_piece_is_no_piece(here: Opened) -> None:
    """No stage ever sees a batch of no records."""
    found, none = here.kernel(), here.kernel()
    output = here.pipeline.output
    by = here.pipeline.stages.clipper.groups
    empty = DenseRows(torch.zeros(0, output.size), output.groups(by), output.group_count(by))
    one, _ = found.release(here.states, here.context, [empty])
    other, _ = none.release(here.states, here.context, [])
    assert same_release(one, other)


@dataclass(frozen=True, kw_only=True)
class Misshapen:
    """A stage of any kind that gives one number where a vector belongs."""

    bound: float = 1.0
    size: int = 3
    noise_ratio: float = 1.0
    groups: str = "parameter"

    def joint_bound(self, state: Any) -> Tensor:
        return torch.tensor(self.bound, dtype=torch.float64)

    def factors(self, state: Any, norms_G: Tensor) -> Tensor:
        return (self.bound / norms_G.norm()).clamp(max=1)

    def vector(self, state: Any, norms_G: Tensor, reads: Any) -> Tensor:
        return torch.ones(1, dtype=torch.float64)

    def output_space(self, space: Space) -> Space:
        return space

    def row(self, state: Any, g_D: Tensor) -> Tensor:
        return g_D.norm()[None]


@pytest.mark.parametrize(
    ("slot", "words"),
    [
        ({"clipper": Misshapen()}, "factors of the clipper of the wrong shape"),
        ({"queries": (Misshapen(),)}, "vectors of Misshapen of the wrong shape"),
        ({"rows": (Misshapen(),)}, "a sum of rows of the wrong shape"),
    ],
)
def test_a_shape_that_would_broadcast_is_refused(slot: dict[str, Any], words: str) -> None:
    """Broadcasting would give a record another's factor, or repeat its number D times."""
    pipeline = Pipeline(**{"clipper": Flat(bound=1.0), "noiser": Gaussian(), **slot})
    here = opened(Plan((Phase("main", pipeline, 1),)))
    rows = here.context.transform(torch.ones(3, 24))
    groups_K = here.pipeline.output.groups(pipeline.clipper.groups)
    whole = rows.shape[1] == 24
    dense = DenseRows(rows, groups_K, 3) if whole and "clipper" in slot else DenseRows(rows)
    found = Kernel(here.pipeline, expected_batch=4.0, relative_error=0.0)
    with pytest.raises(PrivacyError, match=words):
        found.release(here.states, here.context, [dense])


@dataclass(frozen=True, kw_only=True)
class Drifting:
    """A clipper whose released bound has left the range."""

    groups: str = "all"

    def init(self, context: PhaseContext, reads: Any) -> dict[str, Tensor]:
        return {"bound": torch.tensor(1.0, dtype=torch.float64)}

    def update(self, state: Any, release: Any, reads: Any) -> Any:
        return state

    def joint_bound(self, state: Any) -> Tensor:
        return state["bound"]

    def factors(self, state: Any, norms_G: Tensor) -> Tensor:
        return torch.ones_like(norms_G)


@pytest.mark.parametrize("bound", [0.0, -1.0, 1e-200, 1e200, *NOT_FINITE])
def test_a_bound_that_left_the_range_is_refused(bound: float) -> None:
    """Far below 2⁻²⁰⁰ the guard's squares underflow and would let rows through."""
    here = opened(Plan((Phase("main", Pipeline(Drifting(), Gaussian()), 1),)))
    far = {**here.states, "Drifting": {"bound": torch.tensor(bound, dtype=torch.float64)}}
    with pytest.raises(PrivacyError, match="not a number in range"):
        here.kernel().release(far, here.context, [])


@pytest.mark.parametrize("cls", registered_stages(), ids=name_of)
def test_the_laws_reach_every_registered_stage(cls: type) -> None:
    """Every stage is in some plan that the laws draw; but for the one that noise refuses."""
    if cls is Unclipped:
        with pytest.raises(GrammarError):
            Pipeline(Unclipped(), Gaussian())
        return
    assert cls in stages_drawn()


@cache
def stages_drawn() -> set[type]:
    """The stages of the first plans that the laws draw: until all are there, of 1000 plans."""
    wanted, drawn = set(registered_stages()) - {Unclipped}, set[type]()

    def complete(plan: Plan) -> bool:
        drawn.update(stages_of(plan))
        return wanted <= drawn

    quietly = settings(max_examples=1000, phases=[Part.generate], database=None)
    with suppress(NoSuchExample):
        find(plans(factorisations=FACTORISATIONS), complete, settings=quietly)
    return drawn


def stages_of(plan: Plan) -> set[type]:
    pipelines = [pipeline for phase in plan.phases for pipeline in phase.pipelines]
    looks = [phase.selective_update for phase in plan.phases if phase.selective_update is not None]
    placed = {type(p.stage) for pipeline in pipelines for p in pipeline.placed}
    return placed | {type(selective_update.decision) for selective_update in looks}
