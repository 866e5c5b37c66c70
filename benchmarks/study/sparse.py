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
from sklearn.linear_model import LogisticRegression

from benchmarks.study.cells import Cell, mean_and_spread
from benchmarks.study.reviews import labelled, public_sentences, reviews
from benchmarks.study.store import RESULTS, Store

WORDS = "benchmarks.study.reviews"
DATA = f"{WORDS}:reviews"
COMMON: Mapping[str, Any] = {
    "records": 6920,
    "classes": 2,
    "model": f"{WORDS}:without_bias",
    "expected_batch": 692.0,
    "steps": 40,
    "clip": 0.2,
}
BUDGETS = (1.0,)
_RATES = (8.0, 12.0, 16.0, 20.0, 24.0, 32.0, 48.0, 64.0, 128.0, 256.0)
_RATIOS = (0.05, 0.2)
_OF_A_MASK = [(ratio, rate) for ratio in _RATIOS for rate in (8.0, 16.0, 32.0, 64.0, 128.0)]
_PUBLIC: Mapping[str, Any] = {
    "scheduler": "top-k",
    "scorer": "public-energy",
    "scorer_options": {"public_records": 1000},
    "pretraining": 0.0,
}
_TRIALS: Mapping[str, list[tuple[dict[str, Any] | None, float]]] = {
    "dpsgd": [({}, rate) for rate in _RATES],
    "adadpigu": [(None, rate) for rate in _RATES],
    "mask of released importance": [
        ({"scheduler": "top-k", "scorer": "coherent", "ratio": ratio}, rate)
        for ratio, rate in _OF_A_MASK
    ],
    "mask of public words": [({**_PUBLIC, "ratio": ratio}, rate) for ratio, rate in _OF_A_MASK],
}
"""Ten for each method: what is taken into the plan, and the learning rate. None is the preset."""


def trials() -> list[Cell]:
    """Masks on sparse rows: ten trials for each method, on a validation split, at ε = 1."""
    return [
        Cell(
            name=f"{method}/{trial}",
            data=DATA,
            preset="adadpigu",
            epsilon=BUDGETS[0],
            options={**COMMON, "learning_rate": rate, **_public(method)},
            plan=plan,
            validation=True,
        )
        for method, tried in _TRIALS.items()
        for trial, (plan, rate) in enumerate(tried)
    ]


def _public(method: str) -> dict[str, Any]:
    """The public data of the one method that reads some."""
    return {"public": f"{WORDS}:public_sentences"} if method == "mask of public words" else {}


def final() -> list[Cell]:
    """Masks on sparse rows: the best kept trial of each method that has all, at ε = 1."""
    store = Store(RESULTS, "reviews-trials")
    chosen = [(method, best(method, store)) for method in _TRIALS]
    return [
        replace(cell, name=f"{method}/{epsilon:g}", epsilon=epsilon, validation=False)
        for method, cell in chosen
        if cell is not None
        for epsilon in BUDGETS
    ]


def best(method: str, store: Store) -> Cell | None:
    """The trial of best mean validation accuracy; None unless all have equally many runs."""
    tried = [cell for cell in trials() if _method(cell) == method]
    runs = [store.runs(cell.name) for cell in tried]
    if not runs[0] or len({len(kept) for kept in runs}) > 1:
        return None
    return max(zip(tried, runs, strict=True), key=lambda pair: mean_and_spread(pair[1])[0])[0]


def _method(cell: Cell) -> str:
    return cell.name.rpartition("/")[0]


def shares() -> list[dict[str, Any]]:
    """ρ and π of supports before the first step, of rows without noise; nothing trains on them."""
    data = reviews()
    row_ND = (0.5 - data.train_y)[:, None] * data.train_x  # of the second class's weights
    mean_D, energy_D = row_ND.mean(0), row_ND.square().mean(0)
    scores = {
        "the mean row itself (not private)": mean_D.abs(),
        "the rows' energy (not private)": energy_D,
        "public words": public_sentences().train_x.square().mean(0),
        "random": torch.rand(len(mean_D), generator=torch.Generator().manual_seed(0)),
    }
    found = []
    for ratio in _RATIOS:
        for name, score_D in scores.items():
            kept = score_D.topk(round(ratio * len(score_D))).indices
            rho = float(mean_D[kept].square().sum() / mean_D.square().sum())
            pi = float(energy_D[kept].sum() / energy_D.sum())
            found.append({"support": name, "ratio": ratio, "rho": rho, "pi": pi})
    return found


def public_labels() -> dict[float, float]:
    """Accuracy on test records of scikit-learn's model of the public labels alone, by its C."""
    x, y = (values.numpy() for values in labelled("dev"))
    data = reviews()
    test = data.test_x.numpy(), data.test_y.numpy()
    return {c: LogisticRegression(C=c).fit(x, y).score(*test) for c in (1.0, 10.0, 100.0)}


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
    chosen = [best(method, store) for method in _TRIALS]
    rows: dict[str, dict[float, str]] = {}
    for cell in trials():
        if runs := store.runs(cell.name):
            ratio = (cell.plan or {}).get("ratio")
            row = rows.setdefault(_method(cell) + ("" if ratio is None else f", {ratio:.0%}"), {})
            text = f"{mean_and_spread(runs)[0]:.1%}".rstrip("%")
            row[cell.options["learning_rate"]] = f"**{text}**" if cell in chosen else text
    lines = [
        f"| learning rate | {' | '.join(f'{rate:g}' for rate in _RATES)} |",
        "|---|" + "--:|" * len(_RATES),
    ]
    lines += [
        f"| {name} | {' | '.join(row.get(rate, '') for rate in _RATES)} |"
        for name, row in rows.items()
    ]
    return "\n".join(lines)
