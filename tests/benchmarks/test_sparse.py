"""Sparse rows: equal trials, and rows of norm 1."""

from __future__ import annotations

import torch

from benchmarks.study import sparse
from benchmarks.study.reviews import COLUMNS, _row
from benchmarks.study.store import RESULTS, Store


def test_every_method_has_four_trials_with_the_same_steps_and_batch() -> None:
    tried = sparse.trials()
    methods = [cell.name.split("/")[0] for cell in tried]
    assert {methods.count(method) for method in methods} == {4}
    assert all(cell.validation and cell.epsilon == 1.0 for cell in tried)
    for key in ("steps", "expected_batch", "clip", "model"):
        assert len({cell.options[key] for cell in tried}) == 1


def test_the_final_runs_take_the_best_trial() -> None:
    kept = Store(RESULTS, "reviews-trials")
    for cell in sparse.final():
        assert not cell.validation
        method = cell.name.split("/")[0]
        tried = [trial for trial in sparse.trials() if trial.name.startswith(f"{method}/")]
        best = max(tried, key=lambda trial: kept.runs(trial.name)[0]["accuracy"])
        assert (cell.options, cell.plan) == (best.options, best.plan)


def test_a_sentence_is_its_words_and_pairs_whatever_their_number() -> None:
    x_D = _row("a b a")  # a, b, a b, b a
    assert x_D.shape == (COLUMNS,) and int((x_D > 0).sum()) == 4
    assert torch.isclose(x_D.norm(), torch.tensor(1.0))
