"""Weights carry the runs that they come from; a statement says what its claim composes with."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from dp_accounting import ComposedDpEvent
from dpigu.accountants import get_accountant
from dpigu.dpcore import Plan
from dpigu.mechanisms import non_private
from dpigu.trainers import Data, Run, Settings, load_run, resume, train
from dpigu.trainers.lifecycle.lineage import Ancestor, lineage_of, remember
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.trainers.lifecycle.test_spending import Bystander


@pytest.fixture
def once(plan: Plan, data: Data, settings: Settings):
    """Train a model once."""

    def run(model: nn.Module, out: Path | None = None, **options) -> Run:
        chosen = {"plan": plan, "settings": settings} | options
        return train(data=data, model=model, out=out, progress=False, **chosen)

    return run


def test_two_runs_on_one_model_say_what_they_are_together(
    once, plan: Plan, settings: Settings, data: Data, model: nn.Module, tmp_path: Path
) -> None:
    first = once(model)
    assert first.summary["lineage"] == [] and first.summary["together"] is None
    second = once(model, tmp_path / "second")
    (ancestor,) = second.summary["lineage"]
    step = plan.event(settings.sampler(data.spec.records))
    both = get_accountant("rdp").epsilon(ComposedDpEvent([step, step]), settings.delta).value
    assert second.summary["together"]["epsilon"] == pytest.approx(both)
    assert second.summary["epsilon"] == pytest.approx(first.summary["epsilon"])
    text = (tmp_path / "second/public/STATEMENT.txt").read_text()
    assert f"it started from weights of run {ancestor['run'][:12]} on points" in text


@pytest.mark.parametrize("way", ["deepcopy", "state_dict", "another head", "load_run"])
def test_weights_are_known_again(way: str, once, model: nn.Module, tmp_path: Path) -> None:
    model = nn.Sequential(model, nn.Linear(2, 2))
    once(model, tmp_path / "run")
    run = lineage_of(model)
    assert len(run) == 1
    if way == "deepcopy":
        again = copy.deepcopy(model)
    elif way == "state_dict":
        again = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        again.load_state_dict(model.state_dict())
    elif way == "another head":
        again = nn.Sequential(model[0], nn.Linear(2, 2))
    else:
        fresh = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        again = load_run(tmp_path / "run", model=fresh).model
    assert lineage_of(again) == run


def test_a_model_that_was_loaded_and_changed_is_known(once, model, tmp_path: Path) -> None:
    once(model, tmp_path / "run")
    loaded = load_run(tmp_path / "run", model=nn.Linear(2, 2)).model
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.add_(1.0)
    assert len(lineage_of(loaded)) == 1


def test_what_no_run_trained_has_no_lineage(once) -> None:
    """Neither the same initial weights, nor what a run left as it was."""
    torch.manual_seed(5)
    first = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2))
    frozen, initial = copy.deepcopy(first[0]), copy.deepcopy(first)
    once(first)
    assert lineage_of(initial) == ()
    assert lineage_of(nn.Sequential(frozen, nn.Linear(2, 2))) == ()
    assert lineage_of(nn.Linear(2, 2)) == ()


def test_weights_without_a_claim_are_said_to_have_none(
    once, settings: Settings, model: nn.Module, tmp_path: Path
) -> None:
    once(model, plan=non_private(3), settings=dataclasses.replace(settings, noise_multiplier=None))
    second = once(model, tmp_path / "second")
    assert second.summary["together"]["epsilon"] is None
    text = (tmp_path / "second/public/STATEMENT.txt").read_text()
    assert "where no noise was drawn; the claim covers what this run added" in text


def test_lineage_survives_a_resumption(once, data: Data, model: nn.Module, tmp_path: Path) -> None:
    first = once(model)
    with pytest.raises(KeyboardInterrupt):
        once(model, tmp_path / "run", observer=Bystander(5))
    assert len(lineage_of(model)) == 2  # a run that was stopped has released, too
    run = resume(tmp_path / "run", data=data, model=nn.Linear(2, 2), progress=False)
    assert len(run.summary["lineage"]) == 1
    assert run.summary["together"]["epsilon"] > first.summary["epsilon"]
    third = once(load_run(tmp_path / "run", model=nn.Linear(2, 2)).model)
    assert len(third.summary["lineage"]) == 2


CHANGES = {
    "kept": st.sampled_from(["module", "tensors", "one tensor"]),
    "shift": st.sampled_from([0.0, 1.0]),
}


def law_what_comes_from_a_run_is_known(kept: str, shift: float) -> None:
    """By the module, though its weights move; by any tensor that was trained, in another module."""
    trained = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    ancestor = Ancestor("a run", "points", "", ())
    remember(trained, (ancestor,))
    if kept == "module":
        with torch.no_grad():
            for parameter in trained.parameters():
                parameter.add_(shift)
        again: nn.Module = trained
    elif kept == "tensors":
        again = copy.deepcopy(trained)
    else:
        again = nn.Sequential(copy.deepcopy(trained[0]), nn.Linear(3, 5))
    assert lineage_of(again) == (ancestor,)


@given(**CHANGES)
def test_what_comes_from_a_run_is_known(kept: str, shift: float) -> None:
    law_what_comes_from_a_run_is_known(kept, shift)


def test_an_ancestor_is_read_as_it_was_written(once, model: nn.Module) -> None:
    once(model)
    (ancestor,) = lineage_of(model)
    assert Ancestor.from_dict(ancestor.to_dict()) == ancestor
