"""Models of `transformers`, with and without LoRA: the fast engine's rows are a record's own."""

from __future__ import annotations

import pytest
import torch
from dpigu.dpcore import Space, Transform
from dpigu.trainers.engines import (
    GhostEngine,
    LossOfOne,
    Norms,
    OneByOneEngine,
    RowEngine,
    Traced,
    choice,
    trace,
    trainable,
)
from dpigu.trainers.engines.layers import kinds
from dpigu.trainers.engines.vmap_rules import attention
from dpigu.trainers.tasks import TASKS
from torch import Tensor, nn

from tests.support.laws.engines import row_of
from tests.support.zoo.hf_zoo import CAUSAL, MODELS, made, records

COUNT = 4
CASES = [(name, lora) for name in MODELS for lora in (False, True)]


def loss_of(name: str) -> object:
    return TASKS["causal-lm" if name in CAUSAL else "classification"].loss


def traced(name: str, model: nn.Module) -> Traced:
    return trace(LossOfOne(model.train(), loss_of(name)), trainable(model), *records(name, COUNT))


def rows(engine: type[RowEngine], name: str, model: nn.Module) -> tuple[RowEngine, Tensor, Tensor]:
    """An engine with every record's row B × D, and the bounds of their norms."""
    space = Space.of(trainable(model))
    weights = {n: p.detach() for n, p in trainable(model).items()}
    at_work = engine(model, loss_of(name), Norms(None, 1), COUNT)
    valid_B = torch.ones(COUNT, dtype=torch.bool)
    found = at_work.rows(weights, *records(name, COUNT), valid_B, Transform(space, space, (), None))
    g_BD = torch.stack([row_of(found, i, COUNT) for i in range(COUNT)])
    return at_work, g_BD.double(), found.norm_upper_bounds().flatten()


def distance(model: nn.Module, name: str) -> float:
    """The largest relative distance between a record's rows by the two engines."""
    _, fast_BD, bound_B = rows(GhostEngine, name, model)
    _, alone_BD, _ = rows(OneByOneEngine, name, model)
    norm_B = alone_BD.norm(dim=1)
    assert bool((norm_B > 0).all()) and bool((bound_B >= fast_BD.norm(dim=1)).all())
    return float(((fast_BD - alone_BD).norm(dim=1) / norm_B).max())


@pytest.mark.parametrize(("name", "lora"), CASES)
def test_fast_rows_are_those_of_one_record_at_a_time(name: str, lora: bool) -> None:
    model = made(name, lora)
    found = traced(name, model)
    assert found.mapped is None and found.fast is None
    assert distance(model, name) < 1e-5


@pytest.mark.parametrize("name", MODELS)
def test_a_frozen_base_has_no_coordinate(name: str) -> None:
    trained = trainable(made(name, lora=True))
    assert trained and all("lora" in n or "modules_to_save" in n for n in trained)


def test_a_weight_that_lies_transposed_has_a_rule_that_is_held_against_vmap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, kind = made("gpt2", lora=False), "transformers.pytorch_utils.Conv1D"
    traced("gpt2", model)

    def apart() -> bool:
        choices = rows(GhostEngine, "gpt2", model)[0].choices()
        return "a record at a time" in choices["transformer.h.0.mlp.c_fc.weight"]

    def mutant(layer: nn.Module, seen: kinds.Seen) -> kinds.ParameterRows:
        factors = kinds._transposed_weight(layer, seen)
        return kinds.Factors(factors.layout, factors.left, 2 * factors.b_BqOT)

    assert not apart()
    monkeypatch.setitem(kinds._OF_OTHERS, kind, {**kinds._OF_OTHERS[kind], "weight": mutant})
    assert apart()


@pytest.mark.parametrize("name", [n for n in MODELS if n != "vit"])
def test_the_exchanged_attention_gives_the_same_outputs(name: str) -> None:
    model, (x, _) = made(name, lora=False).eval(), records(name, COUNT)
    real_BT = x["attention_mask"].bool()
    with torch.no_grad():
        before = model(**x).logits
        assert attention.adapted(model)[0] == attention.EXCHANGED
        after = model(**x).logits
    if name in CAUSAL:
        before, after = before[real_BT], after[real_BT]
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize("name", ("llama", "bert"))
def test_the_library_s_own_attention_looks_at_the_mask(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "adapted", lambda model: ())
    assert "vmap" in (traced(name, made(name, lora=False)).mapped or "")


def test_what_was_set_is_said() -> None:
    assert traced("gpt2", made("gpt2", lora=True)).adapted == (
        attention.EXCHANGED,
        attention.UNCACHED,
    )
    assert traced("vit", made("vit", lora=False)).adapted == (attention.EXCHANGED,)
