"""Sparse rows: equal trials, and rows of norm 1."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.study import reviews as study_reviews
from benchmarks.study import sparse
from benchmarks.study.cells import mean_and_spread
from benchmarks.study.reviews import COLUMNS, _row
from benchmarks.study.store import RESULTS, Store


def test_every_method_has_eight_trials_with_the_same_steps_and_batch() -> None:
    tried = sparse.trials()
    methods = [cell.name.split("/")[0] for cell in tried]
    assert {methods.count(method) for method in methods} == {8}
    assert all(cell.validation and cell.epsilon == 1.0 for cell in tried)
    for key in ("steps", "expected_batch", "clip", "model"):
        assert len({cell.options[key] for cell in tried}) == 1


def test_the_final_runs_take_the_best_trial() -> None:
    kept = Store(RESULTS, "reviews-trials")
    for cell in sparse.final():
        assert not cell.validation
        method = cell.name.split("/")[0]
        tried = [trial for trial in sparse.trials() if trial.name.startswith(f"{method}/")]
        best = max(tried, key=lambda trial: mean_and_spread(kept.runs(trial.name))[0])
        assert (cell.options, cell.plan) == (best.options, best.plan)


def test_a_public_mask_holds_from_the_first_step_and_a_released_one_after_a_tenth() -> None:
    steps = {
        method: [phase.steps for phase in cell.recipe(0).plan.phases]
        for cell in sparse.trials()
        if (method := cell.name.split("/")[0]).startswith("mask")
    }
    assert steps == {"mask of public words": [40], "mask of released importance": [4, 36]}


def test_the_public_words_rank_the_weights_of_every_class_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(study_reviews, "public_energy", lambda: torch.tensor([1.0, 3.0, 2.0]))
    space = SimpleNamespace(size=6)
    context: Any = SimpleNamespace(space=space, weights_D=torch.zeros(6))
    scorer = study_reviews.PublicWords()
    assert scorer.score(scorer.init(context, {})).tolist() == [1.0, 3.0, 2.0, 1.0, 3.0, 2.0]
    space.size = 8  # with a bias
    with pytest.raises(ValueError, match="got 8 weights"):
        scorer.init(context, {})


def test_a_sentence_is_its_words_and_pairs_whatever_their_number() -> None:
    x_D = _row("a b a")  # a, b, a b, b a
    assert x_D.shape == (COLUMNS,) and int((x_D > 0).sum()) == 4
    assert torch.isclose(x_D.norm(), torch.tensor(1.0))
