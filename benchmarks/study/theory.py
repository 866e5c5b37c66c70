"""What the theory of masks and scales predicts, from gradients of FashionMNIST.

A mask changes the progress of a step against its noise by ρ²/(π·k/D), with ρ the share of the
mean row's energy that the support keeps, π the share of the rows' own; scales of groups of
coordinate spread s save up to 1 + CV²(s) of the noise (paper/method.md; arXiv 1908.07643).

This looks at un-noised gradients: it explains a public data set, and is no private run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from dpigu.dpcore import Release, StepContext
from dpigu.trainers import build_model, train
from dpigu.trainers.calibration import noise_factor
from dpigu.trainers.engines import row_gradients
from dpigu.trainers.tasks.losses import cross_entropy
from torch import Tensor

from benchmarks.study.cells import Cell

RECORDS = 2000
"""Whose gradients are looked at."""


class Looks:
    """Watches a run, and at some of its steps compares supports on un-noised rows.

    Args:
        model: the one that trains.
        x, y: records to look at.
        clip: C.
        ratio: the share of coordinates in every support.
        at: the steps of the main phase.
    """

    def __init__(
        self, model: torch.nn.Module, x: Tensor, y: Tensor, clip: float, ratio: float, at: set[int]
    ) -> None:
        self.model, self.x, self.y = model, x, y
        self.clip, self.ratio, self.at = clip, ratio, at
        self.found: list[dict[str, Any]] = []
        self._sum: Tensor | float = 0.0
        self._sizes: Tensor | float = 0.0

    def extra_rows(self, phase: str, context: StepContext) -> Tensor | None:
        return None

    def see(self, phase: str, release: Release) -> None:
        value_D = release.gradient.value.double()
        if phase == "pretraining":
            self._sum, self._sizes = self._sum + value_D, self._sizes + value_D.abs()
        elif release.clock.step in self.at:
            self.found.append({"step": release.clock.step, **self._compare()})

    def _compare(self) -> dict[str, Any]:
        weights = {n: p.detach() for n, p in self.model.named_parameters()}
        rows = [
            row_gradients(self.model, cross_entropy, weights, x, y)
            for x, y in zip(self.x.split(500), self.y.split(500), strict=True)
        ]
        row_ND = torch.cat(rows)
        row_ND *= (self.clip / row_ND.norm(dim=1, keepdim=True)).clamp(max=1)
        mean_D = row_ND.mean(0).double()
        energy_D = row_ND.square().mean(0).double()
        assert isinstance(self._sum, Tensor) and isinstance(self._sizes, Tensor)
        flat_D = torch.cat([w.flatten() for w in weights.values()])
        scores = {
            "coherent": self._sum.abs(),
            "mean absolute": self._sizes,
            "weight magnitude": flat_D.abs().double(),
            "random": torch.rand(len(mean_D)).double(),
            "the mean row itself (not private)": mean_D.abs(),
        }
        supports = {name: self._progress(s_D, mean_D, energy_D) for name, s_D in scores.items()}
        sizes = [w.numel() for w in weights.values()]
        spread_G = [(e - m.square()).mean().sqrt() for e, m in _pairs(energy_D, mean_D, sizes)]
        s_D = torch.cat([s.expand(n) for s, n in zip(spread_G, sizes, strict=True)])
        gain = float(s_D.square().mean() / s_D.mean().square())  # 1 + CV²
        return {"supports": supports, "scale_gain": gain}

    def _progress(self, score_D: Tensor, mean_D: Tensor, energy_D: Tensor) -> dict[str, float]:
        k = int(self.ratio * len(score_D))
        kept = score_D.topk(k).indices
        rho = float(mean_D[kept].square().sum() / mean_D.square().sum())
        pi = float(energy_D[kept].sum() / energy_D.sum())
        return {"rho": rho, "pi": pi, "progress": rho**2 / (pi * k / len(score_D))}


def _pairs(a: Tensor, b: Tensor, sizes: list[int]) -> list[tuple[Tensor, Tensor]]:
    return list(zip(a.split(sizes), b.split(sizes), strict=True))


def predict(cell: Cell, data_dir: Path | None) -> Sequence[Mapping[str, Any]]:
    """What the theory predicts along a run of a cell with a mask."""
    assert cell.plan is not None
    recipe = cell.recipe(0)
    data = recipe.load_data(data_dir, progress=False)
    model = build_model(recipe.model_for(data.spec), data.spec, 0)
    sampler = recipe.settings.sampler(data.spec.records)
    factor = noise_factor(recipe.plan, sampler, replace(recipe.settings, accountant="prv"))
    settings = {"noise_multiplier": factor, "accountant": "rdp", "evaluations": 1}
    recipe = cell.recipe(0, **settings, epsilon=None)
    main = recipe.plan.phases[-1].steps
    at = {0, main // 2, main - 1}
    x, y = data.train_x[:RECORDS], data.train_y[:RECORDS]
    looks = Looks(model, x, y, cell.options["clip"], cell.plan.get("ratio", 0.6), at)
    train(recipe.plan, data, model, recipe.settings, observer=looks, progress=False)
    return looks.found
