"""Sparse rows: equal trials, and rows of norm 1."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.study import sparse
from benchmarks.study.reviews import COLUMNS, _row
from benchmarks.study.store import RESULTS, Store


def test_every_method_has_ten_trials_with_the_same_steps_and_batch() -> None:
    tried = sparse.trials()
    methods = [cell.name.split("/")[0] for cell in tried]
    assert {methods.count(method) for method in methods} == {10}
    assert all(cell.validation and cell.epsilon == 1.0 for cell in tried)
    for key in ("steps", "expected_batch", "clip", "model"):
        assert len({cell.options[key] for cell in tried}) == 1


def test_the_final_runs_take_the_trial_of_best_mean_among_equally_many(tmp_path: Path) -> None:
    store = Store(tmp_path, "reviews-trials")
    tried = [cell for cell in sparse.trials() if cell.name.startswith("dpsgd/")]
    for at, cell in enumerate(tried):
        for seed, accuracy in enumerate((0.6, 0.5 + 0.01 * (at == 3))):
            store.add(cell, {"seed": seed, "accuracy": accuracy})
    assert sparse.best("dpsgd", store) == tried[3]
    assert sparse.best("adadpigu", store) is None  # has no runs
    store.add(tried[0], {"seed": 2, "accuracy": 0.9})
    assert sparse.best("dpsgd", store) is None  # a trial has more runs than the others


def test_what_is_final_is_scored_on_test_as_its_trial_was_on_validation() -> None:
    kept = Store(RESULTS, "reviews-trials")
    methods = {cell.name.split("/")[0]: cell for cell in sparse.final()}
    assert len(methods) == 4
    for method, cell in methods.items():
        trial = sparse.best(method, kept)
        assert trial is not None and trial.validation and not cell.validation
        assert (cell.options, cell.plan) == (trial.options, trial.plan)


def test_a_public_mask_holds_from_the_first_step_and_a_released_one_after_a_tenth() -> None:
    steps = {
        (cell.name.split("/")[0], *(phase.steps for phase in cell.recipe(0).plan.phases))
        for cell in sparse.trials()
        if cell.name.startswith("mask")
    }
    assert steps == {("mask of public words", 40), ("mask of released importance", 4, 36)}


def test_a_sentence_is_its_words_and_pairs_whatever_their_number() -> None:
    x_D = _row("a b a")  # a, b, a b, b a
    assert x_D.shape == (COLUMNS,) and int((x_D > 0).sum()) == 4
    assert torch.isclose(x_D.norm(), torch.tensor(1.0))
