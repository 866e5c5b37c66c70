"""Crafted gradients as a campaign's targets: what joins a batch, and what the weights hold."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from dpigu.audits.campaign import gradient_targets
from dpigu.audits.campaign.run import run_campaign, without
from dpigu.audits.campaign.work import open_job

from dpigu import DataError, PoissonSampler, calibrate, recipe_for
from tests.audits.campaign.test_campaign import data, recipe


def test_crafted_gradients_are_orthogonal_and_repeatable() -> None:
    made, model = data(), torch.nn.Linear(4, 3)
    targets = gradient_targets(made, model, count=4, worst_case=False)
    rows = targets.directions()
    torch.testing.assert_close(rows @ rows.T, torch.eye(4))
    again = gradient_targets(made, torch.nn.Linear(4, 3), count=4, worst_case=False)
    assert torch.equal(rows, again.directions()) and targets.identity() == again.identity()
    with pytest.raises(DataError, match="too many crafted gradients"):
        gradient_targets(made, model, count=7, worst_case=False)


def test_the_final_weights_hold_each_crafted_gradient_that_was_in(tmp_path: Path) -> None:
    """One step at rate 1, hardly any noise: lr · C / N a target, and nothing from others."""
    made = data()
    targets = gradient_targets(made, torch.nn.Linear(4, 3), count=4, worst_case=False)
    one = recipe(clip=0.5, steps=1)
    exact = dataclasses.replace(one.settings, noise_multiplier=1e-4, learning_rate=1.2)
    plan = calibrate(one.plan, exact, 12)
    job = open_job(tmp_path, 1, plan, exact, without(made, 4), targets)
    sides = np.array([[False] * 4, [True, False] * 2])
    none, two = (np.array(job.trained_scores(inside_K)) for inside_K in sides)
    np.testing.assert_allclose(two - none, [0.05, 0, 0.05, 0], atol=1e-4)


def test_a_crafted_gradient_joins_a_batch_no_more_often_than_a_record() -> None:
    targets = gradient_targets(data(), torch.nn.Linear(4, 3), count=4, worst_case=False)
    inside_K = np.ones(4, dtype=bool)
    _, crafted = targets.planted(data(), inside_K, PoissonSampler(0.25, 12))
    live_K = torch.arange(15) != 3
    context: Any = SimpleNamespace(noise_support_K=live_K)
    rows = [crafted.extra_rows("train", context) for _ in range(400)]
    assert abs(np.mean([len(row_BD) for row_BD in rows]) - 1.0) < 0.25
    assert all(row_BD.shape[1] == 15 and not row_BD[:, 3].any() for row_BD in rows)
    context.noise_support_K = live_K[:9]
    with pytest.raises(DataError, match="other coordinates than the parameters"):
        crafted.extra_rows("train", context)


def test_noise_that_is_correlated_across_steps_is_refused(tmp_path: Path) -> None:
    targets = gradient_targets(data(), torch.nn.Linear(4, 3), count=4, worst_case=False)
    turns = recipe_for("bandmf", "made", records=12, classes=3, steps=8, noise_multiplier=2.0)
    with pytest.raises(DataError, match="noise of steps is correlated"):
        run_campaign(turns, data(), targets, tmp_path, trials=20)
