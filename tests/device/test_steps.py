"""A step on a device: nothing lies on two devices, and the host waits for nothing.

The first step of a phase looks at the model on made-up records and may wait.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from dpigu.dpcore import Phase, Pipeline, Plan
from dpigu.mechanisms import (
    PRESETS,
    AffineRestorer,
    Flat,
    Gaussian,
    GroupStandardizer,
    JamesStein,
    dpsgd,
)
from dpigu.trainers import Data, Session
from dpigu.trainers.data.making import data_from
from dpigu.trainers.engines import ghost
from dpigu.trainers.engines.layers import choose
from dpigu.trainers.engines.vmap_rules.recurrent import unrolled
from torch import nn

from tests.support.depth import DEEP
from tests.support.device.emulation import Emulation, device
from tests.support.device.watched_runs import (
    HELD,
    ImageNet,
    N,
    SmallNet,
    WatchedStep,
    images,
    public_images,
    settings_for,
    watched,
)
from tests.support.zoo.task_zoo import IDS, LABELS, Pooled, Recurrent, Tokens, Two, X

ALLOWED = {
    ("mechanisms/statistics/selective_update.py accepts", "_local_scalar_dense"): (
        "whether an update stands is a branch of the host's: the optimizer is put back or not"
    ),
    ("dpcore/grammar/bound_pipeline.py bound", "copy to the host"): (
        "noise is drawn on the host, at a scale that the step before released"
    ),
    ("mechanisms/subspaces.py update", "_linalg_svd"): (
        "torch asks the solver whether it converged; once a step, in released-subspace"
    ),
    ("mechanisms/subspaces.py principal", "_linalg_eigh"): (
        "the same of public-subspace, at a refresh"
    ),
}
"""Where the host must know a value, and why: place and operation, at most once a step."""
ONE_BY_ONE = "trainers/engines/one_by_one.py", "trainers/engines/guards/kept.py"
"""What vmap cannot map may look at values, and is itself looked at after every record."""

BRIEF = (
    "adadpigu",
    "dpsur",
    "gep",
    "quantile-clipping",
    "random-freeze",
    "dpsgd-hf-channels",
    "disk",
    "blt",
)
"""Presets whose stages have each done something else on a device."""


def waits_of(steps: list[WatchedStep]) -> set[tuple[str, str]]:
    """Where the host waited after each phase's first step; nothing may lie on two devices."""
    found = set()
    for step in steps:
        assert not step.counts.mixed, step
        if step.number:
            assert max(step.counts.waits.values(), default=0) <= 1, step
            found |= {(place, what) for what, place in step.counts.waits}
    return found


def batch_of(plan: Plan) -> float:
    """Half of the records, or those whose turn it is."""
    return N / max(2, *(phase.pipeline.bands for phase in plan.phases))


@pytest.mark.parametrize("name", sorted(PRESETS) if DEEP else BRIEF)
def test_a_preset_waits_only_where_the_host_decides(name: str) -> None:
    training = PRESETS[name].training
    given: dict[str, Any] = {"public": public_images()} if "public" in training else {}
    noise = {"noise_multiplier": None} if name == "non-private" else {}
    plan = PRESETS[name].plan(12 if DEEP else 3)
    model = ImageNet() if DEEP or name == "adadpigu" else SmallNet()
    settings = settings_for(name, expected_batch=batch_of(plan), **noise)
    steps = watched(plan, images(), model, settings, **given)
    assert waits_of(steps) <= ALLOWED.keys()


@pytest.mark.deep
@pytest.mark.parametrize("name", sorted(PRESETS) if DEEP else ("adadpigu",))
def test_whole_rows_wait_no_more(name: str) -> None:
    training = PRESETS[name].training
    given: dict[str, Any] = {"public": public_images()} if "public" in training else {}
    noise = {"noise_multiplier": None} if name == "non-private" else {}
    plan = PRESETS[name].plan(3)
    settings = settings_for(name, engine="materialising", expected_batch=batch_of(plan), **noise)
    steps = watched(plan, images(), SmallNet(), settings, **given)
    assert waits_of(steps) <= ALLOWED.keys()


def test_a_post_that_shrinks_by_group_waits_for_nothing() -> None:
    stages = Pipeline(clipper=Flat(bound=1.0), noiser=Gaussian(), posts=(JamesStein(),))
    steps = watched(Plan((Phase("main", stages, 2),)), images(), SmallNet(), settings_for())
    assert not waits_of(steps)


def test_one_weight_a_parameter_goes_the_gram_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A standardizer by layer, on a layer over several positions: declared, and not looked at."""
    chosen: list[str] = []

    def told(*given: Any) -> Any:
        chosen.append(choose(*given)[1])
        return choose(*given)

    monkeypatch.setattr(ghost, "choose", told)
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn((N + HELD, 2, 40), generator=draw), torch.arange(N + HELD) % 2
    data = data_from(train=(x[:N], y[:N]), test=(x[N:], y[N:]), records=N, classes=2)
    model = nn.Sequential(nn.Linear(40, 30), nn.Tanh(), nn.Flatten(), nn.Linear(60, 2))
    maps = {"rows": (GroupStandardizer(),), "posts": (AffineRestorer(),)}
    stages = Pipeline(clipper=Flat(bound=1.0), noiser=Gaussian(), **maps)
    steps = watched(Plan((Phase("main", stages, 2),)), data, model, settings_for())
    assert not waits_of(steps) and any(way.startswith("gram: 2 positions") for way in chosen)


def split(x: Any, y: Any) -> tuple[Any, Any]:
    """A training and a held-out part of trees."""
    cut = N if len(y) >= N + HELD else len(y) - HELD
    take = torch.utils._pytree.tree_map
    return (
        (take(lambda v: v[:cut], x), y[:cut]),
        (take(lambda v: v[cut : cut + HELD], x), y[cut : cut + HELD]),
    )


def data_of(x: Any, y: Any, **given: Any) -> Data:
    train, test = split(x, y)
    return data_from(train=train, test=test, records=N, **given)


def tokens() -> tuple[Data, nn.Module]:
    return data_of(IDS, LABELS, classes=2), Pooled(2)


def language() -> tuple[Data, nn.Module]:
    data = data_from(train=IDS[:N], test=IDS[N : N + HELD], records=N, classes=11, task="causal-lm")
    return data, Tokens()


def several_inputs() -> tuple[Data, nn.Module]:
    return data_of((X, IDS), LABELS, classes=2), Two()


def recurrent() -> tuple[Data, nn.Module]:
    return data_of(X, LABELS, classes=2), Recurrent()


def by_person() -> tuple[Data, nn.Module]:
    train, test = split(X, LABELS)
    units = [i // 2 for i in range(N)]
    data = data_from(train=train, test=test, records=N, classes=2, units=units, records_per_unit=3)
    return data, nn.Linear(X.shape[1], 2)


@pytest.mark.parametrize("make", [tokens, language, several_inputs, recurrent, by_person])
def test_records_of_every_kind_wait_for_nothing(make: Any) -> None:
    data, model = make()
    with unrolled(model):  # torch's fused cells are imitated on no device
        steps = watched(dpsgd(2), data, model, settings_for(physical_batch=8))
    assert not waits_of(steps)


def test_what_cannot_be_mapped_waits_for_its_own_sake() -> None:
    settings = settings_for(engine="one-by-one", expected_batch=6)
    for step in watched(dpsgd(2), images(), SmallNet(), settings):
        places = {place.partition(" ")[0] for _, place in step.counts.waits}
        assert not step.counts.mixed
        assert not step.number or places <= set(ONE_BY_ONE)


def test_all_records_may_lie_on_the_device() -> None:
    settings = settings_for(data_on_device=True)
    assert not waits_of(watched(dpsgd(2), images(), SmallNet(), settings))


def test_a_resumed_run_waits_no_more_than_before(tmp_path: Path) -> None:
    device()
    plan = PRESETS["random-freeze"].plan(4)
    settings = settings_for(optimizer="adam")
    with Emulation(), Session(plan, images(), SmallNet(), settings, out=tmp_path / "run") as run:
        for step in run:
            step.apply()
            if step.number == 2:
                run.stop()
    seen = []
    with (
        Emulation() as emulation,
        Session.resume(tmp_path / "run", data=images(), model=SmallNet()) as run,
    ):
        for step in run:
            step.apply()
            seen.append(emulation.anew())
    assert len(seen) == 2 and not seen[1].mixed
    # a checkpoint is written between two steps
    assert {place.partition(" ")[0] for _, place in seen[1].waits} <= {
        "trainers/runs/checkpoint.py"
    }


def test_the_emulation_sees_what_it_is_for() -> None:
    there = device()
    with Emulation(long=3) as emulation:
        x_D = torch.ones(5, dtype=torch.float64).to(there)
        x_D.sum().item(), bool((x_D > 0).all()), x_D[x_D > 0], x_D.cpu(), torch.ones(5) + x_D
        y_D = torch.ones(5).pin_memory().to(there, non_blocking=True)
        z_D = x_D * 2
        assert torch.equal((y_D + z_D).cpu(), torch.full((5,), 3.0, dtype=torch.float64))
        waits = {what for what, _ in emulation.counts.waits}
        assert waits == {
            *("_local_scalar_dense", "index by a mask"),
            *("copy to the host", "copy to the device"),
        }
        assert sum(emulation.counts.mixed.values()) == 1


def test_the_emulation_counts_long_vectors_while_they_are_held() -> None:
    with Emulation(long=3) as emulation:
        x_D = torch.ones(5, dtype=torch.float64, device=device())
        y_D, z_2 = x_D.clone().mul_(2), x_D[:2].clone()
        held = [emulation.held]
        del x_D
        held.append(emulation.held)
        y_D = y_D.add(1)
        held.append(emulation.held)
    assert held == [80, 40, 40] and emulation.counts.peak == 80 and len(z_2) == 2
