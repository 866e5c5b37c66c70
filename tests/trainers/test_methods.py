"""What a phase may be beside a list of stages: looks, statistics, views, public gradients."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from dpigu.dpcore import (
    ConfigurationError,
    GrammarError,
    ModelError,
    Noiser,
    Phase,
    PhaseContext,
    Pipeline,
    Plan,
    Reads,
    Record,
    Release,
    Released,
    ReproducibleNoise,
    SelectiveUpdate,
    Space,
    State,
    Transform,
)
from dpigu.dpcore.registry import entries
from dpigu.dpcore.registry.entries import Entry
from dpigu.mechanisms import Flat, FloatGaussian, Gaussian, TopK, WeightMagnitude, ZerothOrder
from dpigu.mechanisms.statistics.selective_update import LossChange
from dpigu.trainers import Tensors, resume, train
from dpigu.trainers.engines import (
    MaterialisingEngine,
    Norms,
    row_gradients,
    trainable,
)
from dpigu.trainers.tasks.losses import cross_entropy
from torch import Tensor, nn

pytestmark = pytest.mark.numerical

QUIET = FloatGaussian(noise_multiplier=1e-6)


@dataclass(frozen=True, kw_only=True)
class Always:
    """Says the same to every update."""

    says: bool

    def accepts(self, released: Released) -> bool:
        return self.says


@dataclass(frozen=True, kw_only=True)
class Noted:
    """Keeps every update, and the released value of every look."""

    def accepts(self, released: Released) -> bool:
        NOTED.append(float(released.value[0]))
        return True


NOTED: list[float] = []


@dataclass(frozen=True, kw_only=True)
class MeanInput:
    """The mean of the records, written into the buffer `mean`."""

    def row_space(self, parameters: Space, shape: tuple[int, ...]) -> Space:
        return Space.flat("input", shape[0])

    def row_of(self, state: State, record: Record) -> Tensor:
        return record.x

    def fits(self, shape: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
        return {"mean": shape}

    def fitted(self, buffers: Mapping[str, Tensor], release: Release) -> Mapping[str, Tensor]:
        return {"mean": release.gradient.value.to(buffers["mean"].dtype)}


class Centred(nn.Module):
    """A linear model of its input less a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(2))
        self.linear = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x - self.mean)


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Views that are all the record itself, or that differ by a known factor."""

    count: int = 3
    growth: float = 0.0

    def views(self, x: Tensor) -> Tensor:
        return torch.stack([x * (1 + self.growth * k) for k in range(self.count)])


@dataclass(frozen=True, kw_only=True)
class Watcher:
    """Keeps the public gradients that it is shown."""

    public_records: int = 5

    def init(self, context: PhaseContext, reads: Reads) -> State:
        assert context.public_MD is not None
        return {"seen_MD": context.public_MD}

    def update(self, state: State, release: Release, reads: Reads) -> State:
        assert release.public_MD is not None
        return {"seen_MD": release.public_MD}

    def score(self, state: State) -> Tensor:
        return state["seen_MD"].abs().mean(0)


def looked_at(decision: object, noiser: Noiser = QUIET, steps: int = 6) -> Plan:
    looking = Pipeline(clipper=Flat(bound=100.0), noiser=noiser, statistic=LossChange())
    pipeline = Pipeline(clipper=Flat(bound=1.0), noiser=noiser)
    return Plan(
        (
            Phase(
                "main",
                pipeline,
                steps,
                selective_update=SelectiveUpdate(looking, decision, rate=1.0),
            ),
        )
    )


def weights_of(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_an_update_that_is_refused_leaves_no_trace(data, model, settings, tmp_path):
    """Weights and momentum are what they were; every step and every look is charged."""
    before = weights_of(model)
    settings = replace(settings, noise_multiplier=1.0, momentum=0.9)
    run = train(
        looked_at(Always(says=False), Gaussian()),
        data,
        model,
        settings,
        out=tmp_path / "run",
        progress=False,
    )
    assert torch.equal(weights_of(model), before)
    lines = (tmp_path / "run/public/decisions.jsonl").read_text().splitlines()
    assert [json.loads(line)["kept"] for line in lines] == [False] * 6
    assert run.summary["steps"] == 6
    kept = train(looked_at(Always(says=True), Gaussian()), data, model, settings, progress=False)
    assert kept.summary["epsilon"] == run.summary["epsilon"]


def test_momentum_is_rolled_back_too(data, model, settings):
    """Refusing all but the last update is the same as taking that one alone."""

    @dataclass(frozen=True, kw_only=True)
    class OnlyLast:
        def accepts(self, released: Released) -> bool:
            ASKED.append(1)
            return len(ASKED) == 3

    ASKED: list[int] = []
    settings = replace(settings, noise_multiplier=1.0, rate=1.0, expected_batch=None, momentum=0.9)
    other = copy.deepcopy(model)
    train(looked_at(OnlyLast(), steps=3), data, model, settings, progress=False)
    once = Plan((replace(looked_at(Always(says=True), steps=1).phases[0], selective_update=None),))
    train(once, data, other, settings, progress=False)
    torch.testing.assert_close(weights_of(model), weights_of(other), rtol=0, atol=1e-4)


def test_a_look_releases_the_mean_change_of_the_loss(data, model, settings):
    settings = replace(settings, noise_multiplier=1.0, rate=1.0, expected_batch=None)
    x, y = data.train_x, data.train_y
    with torch.no_grad():
        before = float(cross_entropy(model(x), y).mean())
    NOTED.clear()
    train(looked_at(Noted(), steps=1), data, model, settings, progress=False)
    with torch.no_grad():
        after = float(cross_entropy(model(x), y).mean())
    assert [pytest.approx(after - before, abs=1e-4)] == NOTED


def test_a_statistic_sets_buffers_and_trains_nothing(data, settings, tmp_path):
    model = Centred()
    before = weights_of(model)
    pipeline = Pipeline(clipper=Flat(bound=100.0), noiser=QUIET, statistic=MeanInput())
    settings = replace(settings, noise_multiplier=1.0, rate=1.0, expected_batch=None)
    plan = Plan((Phase("moments", pipeline, 1),))
    train(plan, data, model, settings, out=tmp_path / "run", progress=False)
    assert torch.equal(weights_of(model), before)
    torch.testing.assert_close(model.mean, data.train_x.mean(0), atol=1e-4, rtol=0)


def test_what_a_statistic_fitted_outlives_a_resume(data, settings, tmp_path, monkeypatch):
    entry = Entry("statistic", "test/mean-input", MeanInput, "test")
    monkeypatch.setitem(entries._registered, entry.name, entry)
    monkeypatch.setattr(MeanInput, "stage_name", entry.name, raising=False)
    moments = Pipeline(clipper=Flat(bound=100.0), noiser=Gaussian(), statistic=MeanInput())
    main = Pipeline(clipper=Flat(bound=1.0), noiser=Gaussian())
    plan = Plan((Phase("moments", moments, 2), Phase("main", main, 6)))
    settings = replace(settings, noise_multiplier=1.0, evaluations=4)
    noise = ReproducibleNoise(0)
    model = Centred()
    train(plan, data, model, settings, out=tmp_path / "run", noise=noise, progress=False)
    (tmp_path / "run/public/summary.json").unlink()
    again = Centred()
    resume(tmp_path / "run", data=data, model=again, progress=False)
    assert torch.equal(again.mean, model.mean) and bool(model.mean.any())


def test_the_same_view_many_times_is_the_record_once(data, model, settings):
    """Views are averaged within the record: sums, norms and noise stay what they were."""
    found = []
    for views in (None, Copies()):
        net = copy.deepcopy(model)
        pipeline = Pipeline(clipper=Flat(bound=0.1), noiser=Gaussian(), views=views)
        settings_ = replace(settings, noise_multiplier=1.0, rate=1.0, expected_batch=None)
        train(
            Plan((Phase("main", pipeline, 3),)),
            data,
            net,
            settings_,
            noise=ReproducibleNoise(1),
            progress=False,
        )
        found.append(weights_of(net))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-5)


def test_the_row_of_several_views_is_the_mean_of_theirs(data, model):
    x_B, y_B = data.train_x[:6], data.train_y[:6]
    space, views = Space.of(trainable(model)), Copies(growth=0.5)
    transform, weights = Transform(space, space, (), None), trainable(model)
    engine = MaterialisingEngine(model, cross_entropy, Norms(None, 1), 6, None, views.count)
    x_BV = torch.stack([views.views(x) for x in x_B])
    y_BV = y_B[:, None].expand(6, views.count)
    rows = engine.rows(weights, x_BV, y_BV, torch.ones(6, dtype=torch.bool), transform)
    each = [
        row_gradients(model, cross_entropy, weights, x_B * (1 + 0.5 * k), y_B) for k in range(3)
    ]
    torch.testing.assert_close(rows.rows.z_BK, sum(each) / 3)


def test_public_gradients_are_those_of_public_records(data, model, settings):
    """All of them have the same gradient here, so the sample does not matter."""
    public = replace(data, train=Tensors(torch.ones(9, 2), torch.zeros(9, dtype=torch.int64)))
    want = row_gradients(
        model, cross_entropy, trainable(model), public.train_x[:1], public.train_y[:1]
    )
    seen = []

    @dataclass(frozen=True, kw_only=True)
    class Noting(Watcher):
        def init(self, context: PhaseContext, reads: Reads) -> State:
            seen.append(context.public_MD)
            return super().init(context, reads)

    pipeline = Pipeline(clipper=Flat(bound=1.0), noiser=Gaussian(), scorer=Noting())
    plan = Plan((Phase("main", pipeline, 2),))
    settings = replace(settings, noise_multiplier=1.0)
    train(plan, data, model, settings, public=public, progress=False)
    torch.testing.assert_close(seen[0], want.expand(5, -1))


def test_a_stage_that_wants_public_records_is_refused_without(data, model, settings, tmp_path):
    pipeline = Pipeline(clipper=Flat(bound=1.0), noiser=Gaussian(), scorer=Watcher())
    plan = Plan((Phase("main", pipeline, 2),))
    with pytest.raises(ConfigurationError, match=r"there is no public data.*Give `public`"):
        train(plan, data, model, settings, out=tmp_path / "run", progress=False)
    assert not Path(tmp_path / "run").exists()


def test_private_records_in_another_type_are_not_taken_for_public_ones(data, model, settings):
    """Records are told apart by their bytes, so those of another type would all look new."""
    pipeline = Pipeline(clipper=Flat(bound=1.0), noiser=Gaussian(), scorer=Watcher())
    plan = Plan((Phase("main", pipeline, 2),))
    x, y = data.train_x.double(), data.train_y
    public = replace(data, train=Tensors(x, y), test=Tensors(x[:1], y[:1]))
    with pytest.raises(ConfigurationError, match=r"differ in type.*float64.*float32"):
        train(plan, data, model, settings, public=public, progress=False)


def test_scores_of_other_coordinates_than_are_released_are_refused(data, model, settings):
    """A step without gradients releases one number, in which a mask of weights has no place."""
    plan = Plan(
        (
            Phase(
                "main",
                Pipeline(
                    clipper=Flat(bound=1.0),
                    noiser=Gaussian(),
                    statistic=ZerothOrder(),
                    scorer=WeightMagnitude(),
                    scheduler=TopK(ratio=0.5),
                ),
                2,
            ),
        )
    )
    with pytest.raises(GrammarError, match="of other coordinates than this phase releases"):
        train(plan, data, model, settings, progress=False)


class Remembers(nn.Module):
    """Keeps the mean of what it is given in a buffer, which the run would publish."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(2))
        self.linear = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.seen.mul_(0.9).add_(0.1)
        return self.linear(x)


def test_a_buffer_that_forward_writes_to_stops_the_run_before_anything_is_published(
    data, settings, tmp_path
):
    plan = Plan((Phase("main", Pipeline(clipper=Flat(bound=1.0), noiser=Gaussian()), 3),))
    settings = replace(settings, noise_multiplier=1.0)
    with pytest.raises(ModelError, match=r"seen: the model changed a buffer"):
        train(plan, data, Remembers(), settings, out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
