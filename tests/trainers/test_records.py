"""Records as trees, losses of one number, slots, and the engine that is chosen and why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from dpigu.dpcore import (
    BoundPipeline,
    ConfigurationError,
    DataError,
    ModelError,
    Phase,
    Pipeline,
    Plan,
    Space,
    Transform,
)
from dpigu.mechanisms import Flat, Gaussian
from dpigu.trainers.engines import (
    GhostEngine,
    LossOfOne,
    MaterialisingEngine,
    Norms,
    OneByOneEngine,
    Traced,
    choose,
    explain,
    trace,
    trainable,
)
from dpigu.trainers.engines.records import MadeUp, each, one_number
from dpigu.trainers.phases.slots import EMPTY, Slots, microbatches, seated
from dpigu.trainers.tasks.losses import cross_entropy
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

LABELS = torch.zeros(2, dtype=torch.int64)

ENGINES = (GhostEngine, MaterialisingEngine, OneByOneEngine)


class Two(nn.Module):
    """Two inputs and two outputs, as a tree."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.mix, self.out = nn.Embedding(5, 4), nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, tokens: Tensor, values: Tensor) -> dict[str, Tensor]:
        hidden = self.table(tokens).mean(1) + self.mix(values).tanh()
        return {"out": self.out(hidden), "hidden": hidden}


def two_losses(outputs: dict[str, Tensor], y: dict[str, Tensor]) -> Tensor:
    regression = (outputs["out"] - y["value"]).square().mean()
    return regression + F.cross_entropy(outputs["hidden"], y["label"])


@pytest.mark.parametrize("as_dict", (True, False))
def test_inputs_targets_and_outputs_may_be_trees(as_dict: bool) -> None:
    torch.manual_seed(0)
    model, count = Two().double(), 6
    tokens, values = torch.randint(5, (count, 3)), torch.randn(count, 3).double()
    x: Any = {"tokens": tokens, "values": values} if as_dict else (tokens, values)
    y = {"value": torch.randn(count, 2).double(), "label": torch.randint(4, (count,))}
    space, valid = Space.of(trainable(model)), torch.ones(count, dtype=torch.bool)
    weights = {name: p.detach() for name, p in trainable(model).items()}
    found = []
    for engine in ENGINES:
        made = engine(model, two_losses, Norms(None, 1), count)
        rows = made.rows(weights, x, y, valid, Transform(space, space, (), None))
        found.append((rows.norm_upper_bounds(), rows.weighted_sum(torch.ones(count, 1).double())))
    for norms, total in found[1:]:
        torch.testing.assert_close(norms, found[0][0], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(total, found[0][1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("value", (torch.ones(()), torch.ones(1)))
def test_a_number_and_a_vector_of_one_are_losses(value: Tensor) -> None:
    assert one_number(value, F.cross_entropy).shape == ()


@pytest.mark.parametrize(
    "value", (torch.ones(2), torch.ones(1, 1), torch.ones((), dtype=torch.int64), 1.0, None)
)
def test_nothing_else_is(value: object) -> None:
    with pytest.raises(ModelError, match=r"cross_entropy: .*not one number.*\.mean\(\)"):
        one_number(value, F.cross_entropy)


def traced(model: nn.Module, loss: Any = cross_entropy, shape: tuple[int, ...] = (4,)) -> Traced:
    y = torch.zeros(1, dtype=torch.int64)
    return trace(LossOfOne(model.train(), loss), trainable(model), torch.zeros(1, *shape), y)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x / 2 if x.max() > 1 else x)


class Hessian(nn.Module):
    """Takes a derivative of a known layer within forward, which the fast engine has no rule for."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x) + torch.func.jvp(lambda v: self.mix(v).tanh(), (x,), (x,))[1]


def bound(model: nn.Module) -> BoundPipeline:
    pipeline = Pipeline(clipper=Flat(bound=1.0), noiser=Gaussian())
    return BoundPipeline(pipeline, Space.of(trainable(model)))


@pytest.mark.parametrize(
    ("model", "engine", "why"),
    [
        (nn.Linear(4, 3), "ghost", "affine"),
        (Hessian(), "materialising", "cannot be taken apart"),
        (Branching(), "one-by-one", "vmap cannot map the model"),
    ],
)
def test_the_fastest_engine_that_applies_is_chosen_and_says_why(
    model: nn.Module, engine: str, why: str
) -> None:
    seen = traced(model)
    chosen, reason = choose("auto", seen, bound(model))
    assert chosen == engine and why in reason
    assert choose("one-by-one", seen, bound(model)).engine == "one-by-one"
    if engine == "one-by-one":
        for wanted in ("ghost", "materialising"):
            with pytest.raises(ConfigurationError, match=why):
                choose(wanted, seen, bound(model))


def test_describing_a_plan_says_so() -> None:
    pipeline = Pipeline(clipper=Flat(bound=1.0), noiser=Gaussian())
    plan, x = Plan((Phase("main", pipeline, 2),)), torch.zeros(2, 4)
    (said,) = explain(plan, Branching(), cross_entropy, x, LABELS, 0, "auto")
    assert said.engine == "one-by-one" and "vmap" in said.reason


def test_a_model_that_takes_no_batch_of_one_is_one_clear_error() -> None:
    class Paired(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x[0] + x[1])[None]

    with pytest.raises(ModelError, match=r"Paired: .*one record of this shape.*batch of one"):
        traced(Paired(4, 3))


def test_made_up_records_are_the_first_kind_that_the_model_takes() -> None:
    class Positive(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            if bool((x < 0).any()):
                raise ValueError("no negative numbers")
            return super().forward(x)

    assert traced(Positive(4, 3)).made_up.kind == "zero"
    assert traced(nn.Linear(4, 3)).made_up.kind == "normal"


def test_made_up_records_hold_nothing_of_the_data() -> None:
    x, y = torch.full((3, 4), 7.0), torch.full((3,), 7)
    made_x, made_y = MadeUp(x, y)(5)
    assert made_x.shape == (5, 4) and not bool((made_x == 7).any())
    assert made_y.shape == (5,) and not bool(made_y.any())


class Picky(nn.Module):
    """Takes no record whose first number is 9; branches, so it runs one at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        if float(x[0, 0]) == 9:
            raise KeyError("secret")
        return self.mix(x)


def test_a_record_that_raises_is_an_error_and_an_empty_slot_is_none() -> None:
    model = Picky()
    engine = OneByOneEngine(model, cross_entropy, Norms(None, 1), 2)
    x, y = torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64)
    x[1] = 9
    space = Space.of(trainable(model))
    plain = Transform(space, space, (), None)
    weights = {name: p.detach() for name, p in trainable(model).items()}
    with pytest.raises(ModelError, match="KeyError"):
        engine.rows(weights, x, y, torch.tensor([True, True]), plain)
    rows = engine.rows(weights, x, y, torch.tensor([True, False]), plain)
    assert rows.norm_upper_bounds().isfinite().flatten().tolist() == [True, False]


@given(declared=st.integers(1, 40), share=st.floats(0, 1), size=st.integers(1, 9))
def test_every_record_sits_in_one_slot_and_only_they(
    declared: int, share: float, size: int
) -> None:
    present = int(share * declared)
    slots = Slots.drawn(declared, present)
    assert len(slots.record_N) == declared and slots.present == present
    sitting = slots.record_N[slots.record_N != EMPTY]
    assert sorted(sitting) == list(range(present))
    x = torch.arange(1.0, present + 1)[:, None]
    met = []
    for at_B, valid_B in microbatches(slots.record_N, size, torch.device("cpu")):
        x_B = seated(x, at_B, valid_B, torch.full((1, 1), -1.0))
        assert len(x_B) == size
        assert bool((x_B[~valid_B] == -1).all())
        met += x_B[valid_B].flatten().tolist()
    assert sorted(met) == x.flatten().tolist()


TYPES = (
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.uint8, torch.uint16, torch.int32, torch.int64, torch.bool),
)


@given(
    dtype=st.sampled_from(TYPES),
    shape=st.sampled_from([(), (1,), (3,), (2, 3), (2, 3, 4)]),
    at=st.lists(st.integers(-1, 4), min_size=1, max_size=7),
)
def test_records_are_seated_as_they_are_whatever_their_type(
    dtype: torch.dtype, shape: tuple[int, ...], at: list[int]
) -> None:
    """Where nobody is there, the stand-in is; the data set and the stand-in stay as they were."""
    pairs = torch.randint(2, (5, 2, *shape)).to(dtype)
    records, last = pairs.transpose(0, 1)[1], torch.ones(1, *shape).to(dtype)  # not contiguous
    before, found = records.clone(), torch.tensor(at)
    given = {"x": records, "y": (records,)}
    stand_in = {"x": last, "y": (last,)}
    seats = seated(given, found.clamp_min(0), found >= 0, stand_in)
    for got in (seats["x"], *seats["y"]):
        assert got.dtype == dtype and got.shape == (len(at), *shape)
        for place, i in zip(got, at, strict=True):
            assert place.tolist() == (before[i] if i >= 0 else last[0]).tolist()
    assert records.tolist() == before.tolist() and bool(last.to(torch.bool).all())


@given(present=st.integers(1, 12), data=st.data())
def test_without_a_record_everybody_keeps_their_slot(present: int, data: st.DataObject) -> None:
    slots, gone = Slots.drawn(15, present), data.draw(st.integers(0, present - 1))
    fewer = slots.without(gone)
    names = np.array([*range(100, 100 + present), -1])
    kept = np.delete(names, gone)
    before, after = names[slots.record_N], kept[fewer.record_N]
    assert ((before == after) | (before == 100 + gone)).all()
    assert after[before == 100 + gone] == -1


def test_more_records_than_declared_are_refused() -> None:
    with pytest.raises(DataError, match=r"more records than declared .*got 5.*at most 4"):
        Slots.drawn(4, 5)


def test_slots_are_drawn_anew() -> None:
    first, second = (Slots.drawn(200, 150).record_N for _ in range(2))
    assert not np.array_equal(first, second)


def test_each_takes_a_tree_apart() -> None:
    (one, two) = each({"a": torch.arange(2), "b": (torch.ones(2, 3),)})
    assert int(two["a"]) == 1 and one["b"][0].shape == (3,)
