"""Accounting: the event charged is the event that ran, and ε grows with whatever costs more.

What ran is read off the machine: the rate at every draw, the noise that came out of every
release against the clipper's bound, the ledger before each of them. Each accountant's own suite
is tests/accountants/test_suite.py; here the laws start from plans.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from dp_accounting import DpEvent, GaussianDpEvent, LaplaceDpEvent, PoissonSampledDpEvent
from dpigu.accountants import get_accountant
from dpigu.accountants.events import Term, flatten
from dpigu.dpcore import (
    AccountingError,
    GrammarError,
    Kernel,
    Noiser,
    Phase,
    Pipeline,
    Plan,
    PoissonSampler,
    Release,
)
from dpigu.dpcore.claim import read_ledger
from dpigu.dpcore.noise import LAWS, Law
from dpigu.dpcore.noise.laws import RoundedGaussian
from dpigu.mechanisms import Flat, Gaussian, Random, TopK
from dpigu.trainers import Tensors, resume, train
from dpigu.trainers.runs import RunFolder
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from tests.laws.noise.noise_words import Ones
from tests.laws.noise.test_noise import StopAt
from tests.support.laws.data import RECORDS, linear, points, settings_of
from tests.support.laws.strategies import dpsgd
from tests.support.zoo.wild_stages import WildQuery

LEVEL = 1e-6
MARGIN = 1e-3
"""At most so much more noise than charged, relatively: the engines' margins for rounding."""


@dataclass
class Ran:
    """What the machine did: the rates at which it drew, the multipliers that it released at."""

    rates: list[float] = field(default_factory=list)
    multipliers: list[float] = field(default_factory=list)
    charged: list[int] = field(default_factory=list)


@contextmanager
def instrumented(ledger: Path) -> Iterator[Ran]:
    """Watch every draw and every release of the trainer; its noise source must be `Ones`."""
    ran, draw, release, bounded = Ran(), PoissonSampler.draw, Kernel.release, Kernel._bounded
    sums: list[Tensor] = []

    def watched_draw(self: PoissonSampler, present: int, step: int) -> Any:
        ran.rates.append(self.rate)
        return draw(self, present, step)

    def watched_bounded(self: Kernel, value: Tensor, bound: Tensor) -> Any:
        sums.append(value)
        return bounded(self, value, bound)

    def watched_release(self: Kernel, states: Any, context: Any, batch: Any) -> Any:
        ran.charged.append(read_ledger(ledger.read_bytes()).steps)
        sums.clear()
        made, after = release(self, states, context, batch)
        ran.multipliers.append(joint(self, states, made, sums))
        return made, after

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PoissonSampler, "draw", watched_draw)
        patch.setattr(Kernel, "release", watched_release)
        patch.setattr(Kernel, "_bounded", watched_bounded)
        yield ran


def joint(kernel: Kernel, states: Any, made: Release, sums: list[Tensor]) -> float:
    """z = (Σ_k (bound_k / std_k)²)^(−1/2), from the noise that was in fact added."""
    pipeline = kernel.pipeline.stages
    bound = float(pipeline.clipper.joint_bound(states[pipeline.name_in("clipper")]))
    asked = [(made.noised, bound)]
    asked += [(made.queries[p.name], p.stage.bound) for p in pipeline.of("query")]
    expected_batch = settings_of().expected_batch
    precision = 0.0
    for (released, limit), total in zip(asked, sums, strict=True):
        added = (released.value * expected_batch - total)[released.variance > 0]
        precision += (limit / float(added.mean())) ** 2
    return precision**-0.5


def two_phases() -> Plan:
    """Two phases of different noise, one with a support, one with a query."""
    first = Pipeline(
        Flat(bound=1.0),
        Gaussian(noise_multiplier=2.0),
        queries=(WildQuery(bound=3.0, factor=1.0, noise_ratio=4.0),),
    )
    second = Pipeline(
        Flat(bound=0.5), Gaussian(noise_multiplier=1.0), scorer=Random(), scheduler=TopK(ratio=0.5)
    )
    return Plan((Phase("first", first, 3), Phase("second", second, 4)))


def law_charged_is_what_ran(out: Path) -> None:
    """From a real train(): rates, multipliers and counts of what ran are those charged."""
    plan, data = two_phases(), points()
    with instrumented(out / "public" / "ledger.jsonl") as ran:
        train(plan, data, linear(), settings_of(), out=out, noise=Ones(), progress=False)
    assert len(ran.rates) == len(ran.multipliers) == plan.steps
    steps = zip(ran.rates, ran.multipliers, strict=True)
    what_ran = sorted(steps)
    sampler = settings_of().sampler(data.spec.records)
    charged = RunFolder(out).ledger().event
    want = [(t.rate, t.noise_multiplier) for t in flatten(charged) for _ in range(t.count)]
    assert len(what_ran) == len(want)
    for (q, z), (charged_q, charged_z) in zip(what_ran, sorted(want), strict=True):
        assert q == charged_q
        assert charged_z * (1 - 1e-9) <= z <= charged_z * (1 + MARGIN)
    assert flatten(plan.event(sampler)) == flatten(charged)


def law_the_ledger_is_ahead(out: Path) -> None:
    """Before every release its step is in the ledger, in an interrupted run and a resumed one."""
    plan, data = dpsgd(), points()
    with instrumented(out / "public" / "ledger.jsonl") as ran:
        common: dict[str, Any] = {"out": out, "noise": Ones(), "progress": False}
        with pytest.raises(KeyboardInterrupt):
            train(plan, data, linear(), settings_of(), observer=StopAt(2), **common)
        resume(out, data=data, model=linear(), noise=Ones(), progress=False)
    released = len(ran.multipliers)
    assert ran.charged == list(range(1, released + 1))
    assert RunFolder(out).ledger().charged == (released,)


def test_the_event_charged_is_the_event_that_ran(tmp_path: Path) -> None:
    law_charged_is_what_ran(tmp_path / "run")


def test_the_ledger_is_ahead_of_every_release(tmp_path: Path) -> None:
    law_the_ledger_is_ahead(tmp_path / "run")


def law_poisson() -> None:
    """Batches are what PoissonSampledDpEvent says: independent coins of one rate.

    4,000 batches of 50 records, four tests at level 10⁻⁶: sizes are binomial (chi-square), every
    record has the same rate, no two are drawn together or apart too often, nor is one drawn
    again after itself too often or too rarely.
    """
    q, n, count = 0.3, 50, 4000
    sampler = PoissonSampler(q, n)
    drawn = np.zeros((count, n))
    for row in drawn:
        indices = sampler.draw(n)
        assert len(np.unique(indices)) == len(indices)
        row[indices] = 1
    sizes = np.bincount(drawn.sum(1).astype(int), minlength=n + 1)
    want = count * stats.binom.pmf(np.arange(n + 1), n, q)
    common = want >= 5
    observed = np.append(sizes[common], sizes[~common].sum())
    expected = np.append(want[common], want[~common].sum())
    assert stats.chisquare(observed, expected).pvalue > LEVEL
    unit = (drawn - q) / math.sqrt(q * (1 - q))
    limit = stats.norm.isf(LEVEL / (2 * n))
    assert (np.abs(unit.sum(0)) / math.sqrt(count)).max() < limit
    together = np.abs((unit.T @ unit)[np.triu_indices(n, 1)]) / math.sqrt(count)
    assert together.max() < stats.norm.isf(LEVEL / (n * (n - 1)))
    again = np.abs((unit[:-1] * unit[1:]).sum(0)) / math.sqrt(count)
    assert again.max() < limit


def test_the_sampler_tosses_independent_coins() -> None:
    law_poisson()


def law_the_sampler_has_no_seed() -> None:
    """No seed that a user can set repeats a batch."""
    batches = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        batches.append(PoissonSampler(0.5, 200).draw(200))
    assert not np.array_equal(*batches)


def test_the_sampler_has_no_seed() -> None:
    law_the_sampler_has_no_seed()


def law_the_divisor_is_public() -> None:
    """The divisor is rate × declared records: not the batch that came, nor who is present."""
    data = points()
    fewer = replace(data, train=Tensors(data.train_x[:90], data.train_y[:90]))
    seen: list[Tensor] = []

    class Watch:
        def extra_rows(self, phase: str, context: object) -> Tensor | None:
            return None

        def see(self, phase: str, release: Release) -> None:
            seen.append(release.noised.variance)

    by_rate = replace(settings_of(), expected_batch=None, rate=0.25)
    for some in (data, fewer):
        train(dpsgd(), some, linear(), by_rate, observer=Watch(), noise=Ones(), progress=False)
    for variance_K in seen:
        assert torch.equal(variance_K, seen[0])
        std_of_sum_K = variance_K.sqrt() * 0.25 * RECORDS
        assert bool((std_of_sum_K >= 1).all()) and bool((std_of_sum_K <= 1 + MARGIN).all())


def test_the_divisor_is_public() -> None:
    law_the_divisor_is_public()


SIGMAS, RATES = (0.6, 1.0, 2.0, 8.0), (1 / 600, 1 / 60, 0.2, 1.0)
SOME = settings(max_examples=max(3, settings().max_examples // 25))


def epsilon(name: str, plan: Plan, rate: float) -> float:
    """ε of the whole plan at δ = 10⁻⁵."""
    sampler = PoissonSampler(rate, 60_000)
    value = get_accountant(name).epsilon(plan.event(sampler), 1e-5).value
    assert value is not None
    return value


def of(sigma: float, steps: int, *queries: WildQuery) -> Plan:
    """A plan of one phase."""
    pipeline = Pipeline(Flat(bound=1.0), Gaussian(noise_multiplier=sigma), queries=queries)
    return Plan((Phase("main", pipeline, steps),))


def law_epsilon_grows(name: str, sigma: float, rate: float, steps: int) -> None:
    """ε falls with σ; grows with steps, rate and every query; PLD's discretisation is 10⁻⁴."""
    slack = {"rdp": 1e-9, "pld": 2e-3}[name]
    here = epsilon(name, of(sigma, steps), rate)
    query = WildQuery(bound=1.0, factor=1.0, noise_ratio=3.0)
    for more in (
        epsilon(name, of(sigma, 2 * steps), rate),
        epsilon(name, of(sigma, steps), min(1.0, 2 * rate)),
        epsilon(name, of(sigma / 1.3, steps), rate),
        epsilon(name, of(sigma, steps, query), rate),
    ):
        assert here <= more + slack


def law_a_query_has_its_own_price(sigma: float, ratio: float) -> None:
    """Gradient and query are one Gaussian of z = σ(1 + ratio⁻²)^(−1/2), sampled once."""
    query = WildQuery(bound=5.0, factor=1.0, noise_ratio=ratio)
    event = of(sigma, 7, query).event(PoissonSampler(0.1, 100))
    (term,) = flatten(event)
    assert term.rate == 0.1 and term.count == 7
    assert term.noise_multiplier == pytest.approx(sigma / math.sqrt(1 + ratio**-2), rel=1e-12)


def law_order_does_not_matter(sigmas: list[float], rate: float) -> None:
    """The phases of a plan cost the same in any order, and split in two."""
    parts = [replace(of(s, 5).phases[0], name=str(i)) for i, s in enumerate(sigmas)]
    sampler = PoissonSampler(rate, 600)
    terms = {flatten(Plan(order).event(sampler)) for order in (tuple(parts), tuple(parts[::-1]))}
    assert len(terms) == 1
    counts = (2, 3)
    split = [replace(parts[0], steps=n, name=f"s{n}") for n in counts]
    assert flatten(Plan(tuple(split)).event(sampler)) == flatten(Plan((parts[0],)).event(sampler))


def law_rdp_is_above_pld(sigma: float, rate: float, steps: int) -> None:
    """RDP's bound is never below PLD's, but for PLD's discretisation."""
    tight, loose = (epsilon(name, of(sigma, steps), rate) for name in ("pld", "rdp"))
    assert loose >= tight - 2e-3


STEPS = st.sampled_from((1, 20, 400))


@given(sigma=st.sampled_from(SIGMAS), rate=st.sampled_from(RATES), steps=STEPS)
def test_rdp_grows(sigma: float, rate: float, steps: int) -> None:
    law_epsilon_grows("rdp", sigma, rate, steps)


@SOME
@given(sigma=st.sampled_from(SIGMAS), rate=st.sampled_from(RATES), steps=STEPS)
def test_pld_grows(sigma: float, rate: float, steps: int) -> None:
    law_epsilon_grows("pld", sigma, rate, steps)


@SOME
@given(sigma=st.sampled_from(SIGMAS), rate=st.sampled_from(RATES), steps=STEPS)
def test_rdp_is_above_pld(sigma: float, rate: float, steps: int) -> None:
    law_rdp_is_above_pld(sigma, rate, steps)


@given(sigma=st.floats(0.1, 100), ratio=st.floats(0.1, 100))
def test_a_query_has_its_own_price(sigma: float, ratio: float) -> None:
    law_a_query_has_its_own_price(sigma, ratio)


@given(sigmas=st.lists(st.floats(0.1, 100), min_size=2, max_size=4, unique=True))
def test_order_does_not_matter(sigmas: list[float]) -> None:
    law_order_does_not_matter(sigmas, 0.01)


@dataclass(frozen=True, kw_only=True)
class Laplace:
    """A noiser whose law the kernel does not draw."""

    law: str = "laplace"
    noise_multiplier: float = 1.0


class LaplaceLaw(RoundedGaussian):
    """A law whose event no accountant here knows."""

    def event(self, noise_multiplier: float) -> DpEvent:
        return LaplaceDpEvent(noise_multiplier)


@pytest.fixture
def laplace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cast(dict[str, Law], LAWS), "laplace", LaplaceLaw())


def test_a_law_that_nobody_knows_is_refused_at_construction() -> None:
    with pytest.raises(GrammarError, match="names no law that the kernel can draw"):
        Pipeline(Flat(bound=1.0), cast(Noiser, Laplace()))


@pytest.mark.usefixtures("laplace")
@pytest.mark.parametrize("name", ["rdp", "prv", "pld"])
@given(before=st.integers(0, 3), after=st.integers(0, 3))
def test_an_unknown_event_is_refused_wherever_it_runs(name: str, before: int, after: int) -> None:
    known = Pipeline(Flat(bound=1.0), Gaussian())
    strange = Pipeline(Flat(bound=1.0), cast(Noiser, Laplace()))
    phases = [Phase(f"k{i}", known, 2) for i in range(before + after)]
    plan = Plan((*phases[:before], Phase("strange", strange, 1), *phases[before:]))
    with pytest.raises(AccountingError, match="LaplaceDpEvent"):
        get_accountant(name).epsilon(plan.event(PoissonSampler(0.1, 10)), 1e-5)


@pytest.mark.usefixtures("laplace")
def test_a_plan_with_an_unknown_event_spends_nothing(tmp_path: Path) -> None:
    pipeline = Pipeline(Flat(bound=1.0), cast(Noiser, Laplace()))
    plan = Plan((Phase("main", pipeline, 2),))
    calibrated = replace(settings_of(), noise_multiplier=None, epsilon=1.0)
    with pytest.raises(AccountingError, match="LaplaceDpEvent"):
        train(plan, points(), linear(), calibrated, out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_full_batch_is_not_amplified() -> None:
    (term,) = flatten(of(2.0, 3).event(PoissonSampler(1.0, RECORDS)))
    assert term == Term(1.0, 2.0, 3)
    assert PoissonSampler(0.5, 10).event(GaussianDpEvent(2.0)) == PoissonSampledDpEvent(
        0.5, GaussianDpEvent(2.0)
    )
