"""Rank every preset on two data sets at ε = 1 and 4 (δ = 1e-5), over five seeds.

    python -m benchmarks.ranking [--only 'digits/*'] [--seeds 0,1,2,3,4]
    python -m benchmarks.ranking --draw

Each method has the same steps, batch and clipping norm, and three trials at ε = 2 on validation
records: half, once and twice its learning rate. The best is run at both budgets and scored on the
held-out records. Runs are kept in benchmarks/results/ranking.json, and what is there is not run
again. --draw fills docs/methods.md and draws docs/pictures/ranking-*.png.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from dpigu.mechanisms import PRESETS

from benchmarks.ranking.picture import Ranked, fill
from benchmarks.study.cells import Cell, mean_and_spread, measure
from benchmarks.study.store import Store

RESULTS = Path(__file__).resolve().parents[1] / "results"
BUDGETS = (1.0, 4.0)
FACTORS = (0.5, 1.0, 2.0)
DATA: Mapping[str, dict[str, Any]] = {
    "digits": {"data": "digits", "expected_batch": 256.0},
    "small-fashion": {
        "data": "benchmarks.ranking.small_fashion:small_fashion",
        "records": 6000,
        "expected_batch": 600.0,
    },
}
COMMON = {"steps": 60, "clip": 0.2, "learning_rate": 0.5, "momentum": 0.9, "delta": 1e-5}


def cell(name: str, preset: str, end: str, factor: float, **of_cell: Any) -> Cell:
    """A cell of a preset whose learning rate is a factor times its own, or the common one.

    Plain SGD takes η/(1 − m), what the common rate and momentum come to.
    """
    training = PRESETS[preset].training
    options = {**COMMON, **DATA[name]}
    if training.get("momentum") == 0:
        options["learning_rate"] /= 1 - COMMON["momentum"]
    if preset == "non-private":
        options["learning_rate"] *= 0.1
        del options["clip"]
    own = {key: training[key] for key in ("learning_rate", "momentum") if key in training}
    options |= own
    options["learning_rate"] *= factor
    data = options.pop("data")
    full = f"{name}/{preset}/{end}"
    return Cell(name=full, data=data, preset=preset, options=options, **of_cell)


def trials(name: str, preset: str) -> list[Cell]:
    """The three trials of a preset on a data set, at ε = 2 on validation records."""
    epsilon = None if preset == "non-private" else 2.0
    return [
        cell(name, preset, f"trial/{factor:g}", factor, epsilon=epsilon, validation=True)
        for factor in FACTORS
    ]


def best(store: Store, name: str, preset: str) -> float | None:
    """The factor of the best trial, once all have run."""
    runs = [store.runs(trial.name) for trial in trials(name, preset)]
    if not all(runs):
        return None
    scores = [mean_and_spread(found)[0] for found in runs]
    return FACTORS[scores.index(max(scores))]


def cells(name: str, preset: str, factor: float) -> Iterator[tuple[float | None, Cell]]:
    """The cells that are ranked, with ε: one without a budget for what is not private."""
    for epsilon in BUDGETS if preset != "non-private" else (None,):
        end = "none" if epsilon is None else f"{epsilon:g}"
        yield epsilon, cell(name, preset, end, factor, epsilon=epsilon)


@click.command(help=__doc__.partition("\n")[0])
@click.option("--only", default="*", help="DATA/PRESET, with * for anything")
@click.option("--seeds", default="0,1,2,3,4", show_default=True, help="of the initial weights")
@click.option("--draw", is_flag=True, help="fill docs/methods.md from the kept runs, and stop")
@click.option("--data-dir", type=click.Path(path_type=Path), default=None)
def main(only: str, seeds: str, draw: bool, data_dir: Path | None) -> None:
    store = Store(RESULTS, "ranking")
    if draw:
        fill([row for name in DATA for row in ranked(store, name)], tuple(DATA), BUDGETS)
        return
    numbers = tuple(int(seed) for seed in seeds.split(","))
    for name in DATA:
        chosen = [preset for preset in PRESETS if fnmatch.fnmatch(f"{name}/{preset}", only)]
        for preset in chosen:
            for trial in trials(name, preset):
                run(store, trial, numbers[:1], data_dir)
        for seed in numbers:
            for preset in chosen:
                factor = best(store, name, preset)
                for _, found in cells(name, preset, factor) if factor is not None else ():
                    run(store, found, (seed,), data_dir)


def run(store: Store, found: Cell, seeds: tuple[int, ...], data_dir: Path | None) -> None:
    """Run what is missing of a cell, and say what came out."""
    for seed in store.missing(found, seeds):
        result = measure(found, seed, data_dir)
        store.add(found, result)
        click.echo(
            f"{found.name} seed {seed}: {result['accuracy']:.2%}, {result['cpu_seconds']:.0f} s"
        )


def ranked(store: Store, name: str) -> Iterator[Ranked]:
    """The rows of a data set: what ran at every budget."""
    for preset in PRESETS:
        if (factor := best(store, name, preset)) is None:
            continue
        for epsilon, found in cells(name, preset, factor):
            if runs := store.runs(found.name):
                rate = found.options["learning_rate"]
                accuracies = tuple(100 * r["accuracy"] for r in runs)
                seconds = sum(r["cpu_seconds"] for r in runs) / len(runs)
                yield Ranked(name, preset, epsilon, rate, accuracies, seconds)


if __name__ == "__main__":
    main()
