"""Which cells each table and figure has."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.study import sparse
from benchmarks.study.cells import Cell

CHOSEN = Path(__file__).with_name("chosen.json")
"""For data/method, the trial that validation chose; committed before the test data is opened."""

DATA = ("mnist", "fashion-mnist", "cifar10")
BUDGETS = (2.0, 4.0)
TUNED_AT = 2.0
TRIALS = 4
CLIP = 0.1

METHODS = ("adadpigu", "dpsgd", "dpsur", "dpsgd-hf", "dpsgd-ts")
"""Table 4's methods. `dpsgd` has the paper's nets with ReLU; `dpsgd-ts`, `adadpigu` and `dpsur`
the same nets with tanh; `dpsgd-hf` a linear model on scattering features."""

FIGURE_6 = ("mnist", "adadpigu")
"""The cells whose accuracy is taken along the way too."""

BEST: Mapping[str, tuple[str, ...]] = {"cifar10": ("dpsgd-procedural",)}
"""Further presets whose defaults were chosen on the validation split, by data set."""

FURTHER = Path(__file__).with_name("further.json")
"""Options of the strongest pipelines at one budget each, by data/row/ε: chosen on validation
records, and committed before the test data is opened."""


def trials(data: str, method: str) -> list[dict[str, Any]]:
    """The four configurations that a method is given on a data set, as they run in the end."""
    if method == "dpsgd-hf":
        return [
            {"expected_batch": batch, "steps": 300, "learning_rate": rate, "clip": CLIP}
            for batch, rate in ((4096.0, 8.0), (4096.0, 16.0), (4096.0, 32.0), (8192.0, 32.0))
        ]
    tried = ((1000.0, 2.0), (1000.0, 4.0), (2400.0, 3.0), (2400.0, 6.0))
    visits = 1_500_000 if data == "cifar10" else 2_400_000  # of records: 30 and 40 epochs
    relu = "paper-cifar-cnn" if data == "cifar10" else "paper-mnist-cnn"
    return [
        {
            "expected_batch": batch,
            "steps": round(visits / batch),
            "learning_rate": rate,
            "clip": CLIP,
            **({"model": relu} if method == "dpsgd" else {}),
        }
        for batch, rate in tried
    ]


def chosen(data: str, method: str) -> dict[str, Any]:
    """The configuration that validation chose; the third trial's where the trials were not run."""
    kept = json.loads(CHOSEN.read_text()).get(f"{data}/{method}")
    options: dict[str, Any] = kept["options"] if kept else trials(data, method)[2]
    return options


def tune() -> list[Cell]:
    """Four trials for each method and data set, on a validation split, at ε = 2.

    A net's trial is a run of a quarter of the steps, with the noise of all.
    """
    return [
        Cell(
            name=f"{data}/{method}/{trial}",
            data=data,
            preset=method,
            epsilon=TUNED_AT,
            options=options,
            validation=True,
            share=1.0 if method == "dpsgd-hf" else 0.25,
        )
        for data in DATA
        for method in METHODS
        for trial, options in enumerate(trials(data, method))
    ]


def table4() -> list[Cell]:
    """Every method on every data set at ε = 2 and 4."""
    return [
        Cell(
            name=f"{data}/{method}/{epsilon:g}",
            data=data,
            preset=method,
            epsilon=epsilon,
            options=chosen(data, method),
            points=10 if (data, method) == FIGURE_6 else 1,
        )
        for data in DATA
        for epsilon in BUDGETS
        for method in METHODS
    ]


PARTS: Mapping[str, Mapping[str, Any]] = {
    "neither": {},
    "mask": {"scheduler": "linear-unfreeze"},
    "standardizer": {"standardizer": True},
    "mask and standardizer": {"scheduler": "linear-unfreeze", "standardizer": True},
    "score: mean absolute": {"scheduler": "linear-unfreeze", "scorer": "mean-abs"},
    "score: weight magnitude": {"scheduler": "linear-unfreeze", "scorer": "weight-magnitude"},
    "score: random": {"scheduler": "linear-unfreeze", "scorer": "random"},
    "static mask": {"scheduler": "top-k"},
    "static random mask": {"scheduler": "top-k", "scorer": "random"},
    "cosine unfreezing": {"scheduler": "cosine-unfreeze"},
}


def ablation() -> list[Cell]:
    """AdaDPIGU's parts, apart and together, on FashionMNIST; and ε from 1 to 8."""
    return _parts("fashion-mnist", _short(120))


def digits() -> list[Cell]:
    """The same on digits, where noise limits accuracy, with ratios from 0.1 to 0.9."""
    options = {"expected_batch": 256.0, "steps": 200, "learning_rate": 0.5, "clip": 0.2}
    ratios = [
        Cell(
            name=f"{scorer}, r = {tenths / 10:g}/2",
            data="digits",
            preset="adadpigu",
            epsilon=2.0,
            options=options,
            plan={"scheduler": "top-k", "scorer": scorer, "ratio": tenths / 10},
        )
        for scorer in ("coherent", "random")
        for tenths in range(1, 10)
    ]
    return _parts("digits", options) + ratios


def _parts(data: str, options: dict[str, Any]) -> list[Cell]:
    """Every variant at ε = 2, neither part and both at other budgets, and the literal method."""
    cells = [
        Cell(name=f"{name}/2", data=data, preset="adadpigu", epsilon=2.0, options=options, plan=own)
        for name, own in PARTS.items()
    ]
    cells += [
        Cell(
            name=f"{name}/{epsilon:g}",
            data=data,
            preset="adadpigu",
            epsilon=epsilon,
            options=options,
            plan=PARTS[name],
        )
        for epsilon in (1.0, 4.0, 8.0)
        for name in ("neither", "mask and standardizer")
    ]
    literal = "as the paper writes it/2"
    return [
        *cells,
        Cell(name=literal, data=data, preset="adadpigu-paper", epsilon=2.0, options=options),
    ]


def pruning() -> list[Cell]:
    """Figures 5 and 7: MNIST at ε = 4 with a static mask of each pruning rate."""
    options = _short(80)
    return [
        Cell(
            name=f"pruning {pruned / 10:g}",
            data="mnist",
            preset="adadpigu",
            epsilon=4.0,
            options=options,
            plan={"scheduler": "top-k", "ratio": 1 - pruned / 10} if pruned else {},
            points=5,
        )
        for pruned in range(10)
    ]


def best() -> list[Cell]:
    """The strongest pipelines beyond table 4's: presets at their own settings, then chosen ones."""
    own = [
        Cell(name=f"{data}/{preset}/{epsilon:g}", data=data, preset=preset, epsilon=epsilon)
        for data, presets in BEST.items()
        for preset in presets
        for epsilon in BUDGETS
    ]
    further = [
        Cell(
            name=name,
            data=name.split("/")[0],
            preset=chosen["preset"],
            epsilon=float(name.split("/")[2]),
            options=chosen["options"],
        )
        for name, chosen in json.loads(FURTHER.read_text()).items()
    ]
    return own + further


def figure8() -> list[Cell]:
    """Batch and learning rate at one epoch and one noise multiplier, on MNIST."""
    return [
        Cell(
            name=f"batch {batch:g}, learning rate {rate:g}",
            data="mnist",
            preset="adadpigu",
            options={
                "expected_batch": batch,
                "epochs": 1,
                "learning_rate": rate,
                "clip": CLIP,
                "noise_multiplier": 0.7,
            },
        )
        for batch in (500.0, 1000.0, 1500.0)
        for rate in (1.0, 2.0, 4.0)
    ]


def masked() -> Cell:
    """The run along which the theory is compared with gradients: a mask of released importance."""
    return next(cell for cell in ablation() if cell.name == "static mask/2")


def _short(steps: int) -> dict[str, Any]:
    """What validation chose for AdaDPIGU in eight epochs (commit 2e3f4ca), with fewer steps."""
    return {"expected_batch": 1000.0, "steps": steps, "learning_rate": 8.0, "clip": CLIP}


TABLES: Mapping[str, Callable[[], list[Cell]]] = {
    "tune": tune,
    "table4": table4,
    "ablation": ablation,
    "digits": digits,
    "pruning": pruning,
    "best": best,
    "figure8": figure8,
    "reviews-trials": sparse.trials,
    "reviews": sparse.final,
}
"""The measured tables by name; `pruning` is figures 5 and 7, and figure 6 is a row of table 4."""

ONCE = ("tune",)
"""The tables whose cells are run with one seed."""
