"""Non-interference: with the same released values, raw data change no public bit.

The noise here has standard deviation σC = 1 at C = 2⁻⁸⁰: a guarded sum is then so far below the
last place of the noise that adding it changes nothing, for any data. With the same noise, two
batches release the same bits; so must every state, score, support and rank that follows, the
weights, and the run's public folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from dpigu.dpcore import (
    Clock,
    Kernel,
    Phase,
    Pipeline,
    Plan,
    Reads,
    ReproducibleNoise,
    States,
)
from dpigu.mechanisms import (
    AffineRestorer,
    Coherent,
    EmaStandardizer,
    Flat,
    Gaussian,
    GroupStandardizer,
    LinearUnfreeze,
    MaskedWeights,
    MeanAbsolute,
)
from dpigu.trainers import train
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.support.exact import same, same_release
from tests.support.laws.data import points, settings_of
from tests.support.laws.strategies import (
    SPACE,
    Opened,
    batches,
    begun,
    dpsgd,
    opened,
    plans,
    public_MD,
)
from tests.support.zoo.wild_stages import WildQuery

TINY, LOUD = 2.0**-50, 2.0**35
PLANS = plans(
    clippers=st.just(Flat(bound=TINY)),
    noisers=st.just(Gaussian(noise_multiplier=LOUD)),
    queries=st.just(WildQuery(bound=TINY, factor=1.0)),
    steps=3,
)
MOST_STEPS = 6


def public_trace(plan: Plan, raw: Sequence[Tensor], seed: int) -> list[tuple[object, States]]:
    """All that becomes public in a plan on these gradients, step by step."""
    noise, earlier, trace, t = ReproducibleNoise(seed), {}, [], 0
    for phase in plan.phases:
        pipeline, states = begun(phase, earlier, seed)
        kernel = Kernel(pipeline, expected_batch=4.0, relative_error=0.0, noise=noise)
        for step in range(phase.steps):
            context = pipeline.open(states, Clock(step, phase.steps), public_MD(seed, step))
            here, g_BD = Opened(pipeline, states, context), raw[t][:, : pipeline.space.size]
            release, states = kernel.release(states, context, here.pieces(g_BD, 2))
            trace.append((release, states))
            t += 1
        earlier: Reads = pipeline.views(states)
    return trace


def law_raw_data_change_no_public_bit(
    plan: Plan, one: Sequence[Tensor], other: Sequence[Tensor], seed: int
) -> None:
    """Same releases: same releases, states, scores, supports and ranks, bit for bit."""
    for (first, states), (second, others) in zip(
        public_trace(plan, one, seed), public_trace(plan, other, seed), strict=True
    ):
        assert same_release(first, second)
        assert states.keys() == others.keys()
        for name, state in states.items():
            assert state.keys() == others[name].keys()
            assert all(same(state[key], others[name][key]) for key in state), name


RAW = st.lists(batches(), min_size=MOST_STEPS, max_size=MOST_STEPS)


@given(plan=PLANS, one=RAW, other=RAW, seed=st.integers(0, 999))
def test_raw_data_change_no_public_bit(
    plan: Plan, one: list[Tensor], other: list[Tensor], seed: int
) -> None:
    before = torch.get_rng_state()
    law_raw_data_change_no_public_bit(plan, one, other, seed)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_graph_leads_back_to_the_rows() -> None:
    """A released tensor that kept its graph would keep every private row reachable."""
    here = opened(dpsgd())
    rows = here.rows(torch.ones(2, SPACE.size, requires_grad=True))
    release, _ = here.kernel().release(here.states, here.context, [rows])
    assert not release.gradient.value.requires_grad and not release.noised.value.requires_grad


def adaptive(scorer: Coherent | MeanAbsolute, rows: EmaStandardizer | GroupStandardizer) -> Plan:
    """Two phases in which everything that can learn does."""
    clipper, noiser = Flat(bound=TINY), Gaussian(noise_multiplier=LOUD)
    name = "ema-standardizer" if isinstance(rows, EmaStandardizer) else "group-standardizer"
    main = Pipeline(
        clipper,
        noiser,
        scheduler=LinearUnfreeze(ratio=0.5),
        point=MaskedWeights(),
        rows=(rows,),
        posts=(AffineRestorer(of=name),),
    )
    return Plan(
        (Phase("before", Pipeline(clipper, noiser, scorer=scorer), 3), Phase("main", main, 4))
    )


PLANS_THAT_LEARN = (
    adaptive(Coherent(), GroupStandardizer(refresh=2, certainty=0.0)),
    adaptive(MeanAbsolute(), EmaStandardizer()),
)


def law_two_data_sets_publish_the_same_folder(out: Path) -> None:
    """train() on two data sets with the same noise writes the same public files."""
    settings = replace(settings_of(), learning_rate=0.01)
    for at, plan in enumerate(PLANS_THAT_LEARN):
        found = []
        for seed, scale in ((1, 1.0), (2, 100.0)):
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
            private = points(seed, scale)
            data = replace(points(), train=private.train)
            run = out.with_name(f"run-{at}-{seed}")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(
                    "dpigu.trainers.lifecycle.beginning.new_run_id", lambda: "the same for both"
                )
                noise = ReproducibleNoise(5)
                train(plan, data, model, settings, out=run, noise=noise, progress=False)
            files = sorted(p for p in (run / "public").rglob("*") if p.is_file())
            found.append({str(p.relative_to(run)): p.read_bytes() for p in files})
        assert found[0].keys() == found[1].keys()
        different = [name for name in found[0] if found[0][name] != found[1][name]]
        assert not different, different


def test_two_data_sets_publish_the_same_folder(tmp_path: Path) -> None:
    law_two_data_sets_publish_the_same_folder(tmp_path / "run")
