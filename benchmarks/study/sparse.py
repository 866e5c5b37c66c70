"""Whether a mask helps on sparse rows: film reviews as hashed words.

A mask that keeps the share π of the rows' energy makes a row shorter by √π: its clipping norm, and
what a record sees of the noise. So the noise in a linear model's output has π² of its variance,
and ρ of the mean row's energy, the signal, is left. A mask may help where ρ is above π: where what
records have in common lies on few coordinates, and what each has for itself on many.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch

from benchmarks.study.cells import Cell, mean_and_spread
from benchmarks.study.reviews import public_energy, reviews
from benchmarks.study.store import RESULTS, Store

DATA = "benchmarks.study.reviews:reviews"
COMMON: Mapping[str, Any] = {
    "records": 6920,
    "classes": 2,
    "model": "benchmarks.study.reviews:without_bias",
    "expected_batch": 692.0,
    "steps": 40,
    "clip": 0.2,
}
BUDGETS = (1.0,)
_RATES = (8.0, 16.0, 24.0, 32.0, 48.0, 64.0, 128.0, 256.0)
_RATIOS = (0.05, 0.2)
_OF_A_MASK = [(ratio, rate) for ratio in _RATIOS for rate in (16.0, 32.0, 64.0, 128.0)]
_PUBLIC = {"scheduler": "top-k", "scorer": "public-words", "pretraining": 0.0}
_TRIALS: Mapping[str, list[tuple[dict[str, Any] | None, float]]] = {
    "dpsgd": [({}, rate) for rate in _RATES],
    "adadpigu": [(None, rate) for rate in _RATES],
    "mask of released importance": [
        ({"scheduler": "top-k", "scorer": "coherent", "ratio": ratio}, rate)
        for ratio, rate in _OF_A_MASK
    ],
    "mask of public words": [({**_PUBLIC, "ratio": ratio}, rate) for ratio, rate in _OF_A_MASK],
}
"""Eight for each method: what is taken into the plan, and the learning rate. None is the preset."""


def trials() -> list[Cell]:
    """Masks on sparse rows: eight trials for each method, on a validation split, at ε = 1."""
    return [
        Cell(
            name=f"{method}/{trial}",
            data=DATA,
            preset="adadpigu",
            epsilon=BUDGETS[0],
            options={**COMMON, "learning_rate": rate},
            plan=plan,
            validation=True,
        )
        for method, tried in _TRIALS.items()
        for trial, (plan, rate) in enumerate(tried)
    ]


def final() -> list[Cell]:
    """Masks on sparse rows: the best trial of each method that has all, at ε = 1."""
    store, found = Store(RESULTS, "reviews-trials"), []
    for method in _TRIALS:
        tried = [cell for cell in trials() if cell.name.startswith(f"{method}/")]
        runs = [store.runs(cell.name) for cell in tried]
        if not all(runs):
            continue
        scores = [mean_and_spread(kept)[0] for kept in runs]
        best = tried[scores.index(max(scores))]
        found += [
            replace(best, name=f"{method}/{epsilon:g}", epsilon=epsilon, validation=False)
            for epsilon in BUDGETS
        ]
    return found


def shares() -> list[dict[str, Any]]:
    """ρ and π of supports before the first step, of rows without noise; nothing trains on them."""
    data = reviews()
    row_ND = (0.5 - data.train_y)[:, None] * data.train_x  # of the second class's weights
    mean_D, energy_D = row_ND.mean(0), row_ND.square().mean(0)
    scores = {
        "the mean row itself (not private)": mean_D.abs(),
        "the rows' energy (not private)": energy_D,
        "public words": public_energy(),
        "random": torch.rand(len(mean_D)),
    }
    found = []
    for ratio in _RATIOS:
        for name, score_D in scores.items():
            kept = score_D.topk(round(ratio * len(score_D))).indices
            rho = float(mean_D[kept].square().sum() / mean_D.square().sum())
            pi = float(energy_D[kept].sum() / energy_D.sum())
            found.append({"support": name, "ratio": ratio, "rho": rho, "pi": pi})
    return found


def table(found: Iterable[Mapping[str, Any]]) -> str:
    """What supports of sparse rows keep, and what that is worth in a linear model's output."""
    lines = ["| support | of the coordinates | ρ | π | ρ²/π² |", "|---|--:|--:|--:|--:|"]
    lines += [
        f"| {r['support']} | {r['ratio']:.0%} | {r['rho']:.2f} | {r['pi']:.2f} | "
        f"{(r['rho'] / r['pi']) ** 2:.1f} |"
        for r in found
    ]
    return "\n".join(lines)


def trials_table(store: Store) -> str:
    """Validation accuracy of every trial in per cent, with a method's best in bold."""
    means: dict[str, dict[float, float]] = {}
    best: dict[str, float] = {}
    for cell in trials():
        if not (runs := store.runs(cell.name)):
            continue
        method = cell.name.split("/")[0]
        ratio = (cell.plan or {}).get("ratio")
        row = means.setdefault(method if ratio is None else f"{method}, {ratio:.0%}", {})
        mean = row[cell.options["learning_rate"]] = 100 * mean_and_spread(runs)[0]
        best[method] = max(best.get(method, 0.0), mean)
    lines = [
        f"| learning rate | {' | '.join(f'{rate:g}' for rate in _RATES)} |",
        "|---|" + "--:|" * len(_RATES),
    ]
    for name, row in means.items():
        top = best[name.split(",")[0]]
        texts = [
            "" if rate not in row else f"**{top:.1f}**" if row[rate] == top else f"{row[rate]:.1f}"
            for rate in _RATES
        ]
        lines.append(f"| {name} | {' | '.join(texts)} |")
    return "\n".join(lines)
