"""Channel moments: what is fitted is the mean of clipped rows, and one record moves it by C."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from dpigu.dpcore import (
    Clipper,
    Clock,
    ModelError,
    Phase,
    Pipeline,
    Plan,
    PoissonSampler,
    Record,
    Space,
)
from dpigu.dpcore.registry.configuration import plan_from_dict, plan_to_dict
from dpigu.mechanisms import Flat, Gaussian, Unclipped
from dpigu.mechanisms.statistics.moments import ChannelMoments
from dpigu.trainers import Data, DataSpec, Settings, Tensors, train
from dpigu.trainers.data import Scaling
from dpigu.trainers.models.feature_models import ChannelNorm
from dpigu.trainers.models.registry import build_model
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.support.laws.stage_steps import release_of

pytestmark = pytest.mark.numerical

RECORDS, SHAPE = 40, (3, 2, 2)
SPEC = DataSpec("features", RECORDS, 2, SHAPE, Scaling())
EVERY = Settings(rate=1.0, device="cpu", evaluations=1)
"""Rate 1: every record is in every batch."""


def data(x: Tensor) -> Data:
    y = torch.arange(len(x)) % 2
    return Data(SPEC, Tensors(x, y), Tensors(x + 0.5, y))


def refuse(*_: object) -> NoReturn:
    raise AssertionError("a batch was drawn")


def records(seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return (
        torch.randn(RECORDS, *SHAPE, generator=draw) + torch.tensor([0.0, 1.0, -2.0])[:, None, None]
    )


def plan(clipper: Clipper, steps: int = 1) -> Plan:
    """The moments, without noise."""
    noiser = Gaussian(noise_multiplier=0.0)
    pipeline = Pipeline(clipper=clipper, noiser=noiser, statistic=ChannelMoments())
    return Plan((Phase("moments", pipeline, steps),))


def moments(x: Tensor, clipper: Clipper, steps: int = 1) -> Tensor:
    """The buffers that a run fits, one after the other."""
    model = build_model("scattering-linear-channels", data(x).spec, seed=0)
    before = {name: p.clone() for name, p in model.named_parameters()}
    train(plan(clipper, steps), data(x), model, EVERY, progress=False)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    buffers = dict(model.named_buffers())
    return torch.cat([buffers["norm.mean"], buffers["norm.square"]])


def row(x: Tensor) -> Tensor:
    record = Record(x, torch.tensor(0), lambda _: torch.tensor(0.0), lambda: torch.zeros(1))
    return ChannelMoments().row_of({}, record)


@pytest.mark.parametrize("steps", [1, 3])
def test_without_noise_they_are_the_moments_of_the_batch(steps: int) -> None:
    x = records()
    want = torch.cat([x.mean((0, 2, 3)), x.square().mean((0, 2, 3))])
    torch.testing.assert_close(moments(x, Unclipped(), steps), want, rtol=0, atol=1e-5)


def test_the_row_reads_one_record() -> None:
    """The row under vmap, which cannot mix records, is the row of each by itself."""
    x = records()
    together = torch.vmap(row)(x)
    assert torch.equal(together, torch.stack([row(one) for one in x]))
    channels = torch.stack([x[7, c].mean() for c in range(3)])
    torch.testing.assert_close(together[7, :3], channels)


@given(scale=st.floats(1e-3, 1e6), bound=st.floats(0.01, 10))
def test_one_record_moves_the_sum_by_the_bound_at_most(scale: float, bound: float) -> None:
    """Means and squares together: a bound on each half alone would let √2 of it through."""
    x = records()[1:]
    added = torch.cat([x, scale * torch.ones(1, *SHAPE)])
    moved = RECORDS * (moments(added, Flat(bound=bound)) - moments(x, Flat(bound=bound))).double()
    own = row(scale * torch.ones(SHAPE)).double().norm().item()
    assert moved.norm().item() == pytest.approx(min(own, bound), rel=1e-3, abs=1e-4)


def test_what_is_fitted_is_the_running_mean_of_the_releases() -> None:
    stage, draw = ChannelMoments(module="first"), torch.Generator().manual_seed(1)
    released = torch.randn(5, 6, generator=draw, dtype=torch.float64)
    buffers = {"first.mean": torch.zeros(3), "first.square": torch.ones(3), "other": torch.ones(2)}
    for step, value in enumerate(released):
        release = release_of(value, clock=Clock(step, 5))
        buffers |= stage.fitted(buffers, release)
        want = released[: step + 1].mean(0).float()
        torch.testing.assert_close(
            torch.cat([buffers["first.mean"], buffers["first.square"]]), want, rtol=0, atol=1e-6
        )
    assert torch.equal(buffers["other"], torch.ones(2))


@pytest.mark.parametrize("shape", [(3, 2, 2), (3, 5), (3,)])
def test_the_row_has_a_mean_and_a_square_for_each_channel(shape: tuple[int, ...]) -> None:
    x = torch.randn(*shape)
    assert ChannelMoments().row_space(Space.flat("weights", 7), shape).size == len(row(x)) == 6
    torch.testing.assert_close(row(x)[1], x[1].mean())
    torch.testing.assert_close(row(x)[4], x[1].square().mean())


@pytest.mark.parametrize("lack", ["the layer", "its channels"])
def test_a_model_without_the_buffers_is_refused_before_a_step(tmp_path: Path, lack: str) -> None:
    """Nothing is charged: no batch is drawn, and no run folder is made."""
    model = build_model("mlp" if lack == "the layer" else "scattering-linear-channels", SPEC, 0)
    if lack == "its channels":
        model.norm = ChannelNorm(1)
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(ModelError, match="no such buffer") as caught,
    ):
        patch.setattr(PoissonSampler, "draw", refuse)
        train(plan(Flat(bound=1.0)), data(records()), model, EVERY, out=tmp_path / "run")
    assert "channel-moments" in str(caught.value) and "norm.mean (3,)" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_it_declares_is_what_it_sets() -> None:
    buffers = {name: torch.zeros(shape) for name, shape in ChannelMoments().fits(SHAPE).items()}
    fitted = ChannelMoments().fitted(buffers, release_of(torch.zeros(6)))
    assert {name: value.shape for name, value in fitted.items()} == {
        "norm.mean": (3,),
        "norm.square": (3,),
    }


def test_it_is_charged_like_any_phase_and_comes_back_from_a_file() -> None:
    noisy = replace(plan(Flat(bound=1.0), 4).phases[0].pipeline, noiser=Gaussian())
    made = Plan((Phase("moments", noisy, 4),))
    assert plan_from_dict(plan_to_dict(made)) == made
    event = str(made.event(EVERY.sampler(RECORDS)))
    assert "count=4" in event and "Gaussian" in event
