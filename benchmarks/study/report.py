"""The tables of docs/results.md and its data files, from the kept runs."""

from __future__ import annotations

import json
import math
import shlex
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dp_accounting import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
)
from dpigu.accountants.selection import tuned_epsilon
from dpigu.dpcore import Plan, PoissonSampler
from dpigu.trainers.data import SPECS
from scipy.stats import t as student

from benchmarks.study.cells import Cell, mean_and_spread
from benchmarks.study.claims import ACCURACY, DELTA
from benchmarks.study.store import Store
from benchmarks.study.tables import BUDGETS, DATA, METHODS

FLAGS = {
    "expected_batch": "--batch",
    "steps": "--steps",
    "epochs": "--epochs",
    "learning_rate": "--learning-rate",
    "clip": "--clip",
    "schedule": "--schedule",
    "model": "--model",
    "momentum": "--momentum",
    "noise_multiplier": "--noise-multiplier",
    "average": "--average",
    "features": "--features",
}
Runs = Sequence[Mapping[str, Any]]
Spread = tuple[float, dict[int, float]]
Within = Callable[[Cell], Mapping[int, float]]
NETS = ("adadpigu", "dpsgd", "dpsur", "dpsgd-ts")
SCORE_NOISE = 10.0
"""Records: the noise on a trial's count of right ones, in what the charged column assumes."""


def command(cell: Cell) -> str:
    """The command that trains a cell's configuration once, by a preset; add --seed for another."""
    words = ["dpigu", "train", "--preset", cell.preset, "--data", cell.data]
    if cell.epsilon is not None:
        words += ["--epsilon", f"{cell.epsilon:g}", "--delta", "1e-5"]
    for option, value in cell.options.items():
        text = f"{value:g}" if isinstance(value, float) else str(value)
        words += [FLAGS[option], text]
    return shlex.join(words)


def spread_of_a_new_run(groups: Iterable[Runs]) -> Spread:
    """The pooled standard deviation of cells, and by runs n the half-width for one new run.

    t(0.975; Σ(n − 1)) · s · √(1 + 1/n): a new run lies within it of a cell's mean in 95 of 100
    cases, if runs of the cells spread alike and about normally.
    """
    counted = [[run["accuracy"] for run in runs] for runs in groups if len(runs) > 1]
    freedom = sum(len(found) - 1 for found in counted)
    if not freedom:
        return math.nan, {}
    squares = sum((len(found) - 1) * statistics.variance(found) for found in counted)
    pooled = math.sqrt(squares / freedom)
    factor = float(student.ppf(0.975, freedom))
    sizes = {len(found) for found in counted}
    return pooled, {n: factor * pooled * math.sqrt(1 + 1 / n) for n in sizes}


def rows(cells: Iterable[Cell], store: Store) -> list[dict[str, Any]]:
    """The data file of a table: a row for each cell that has runs."""
    found = []
    for cell in cells:
        runs = store.runs(cell.name)
        if not runs:
            continue
        mean, spread = mean_and_spread(runs)
        found.append(
            {
                "dataset": cell.data,
                "method": cell.name.split("/")[1],
                "target_epsilon": cell.epsilon,
                "epsilon": runs[0]["epsilon"],
                "delta": runs[0]["delta"],
                "accuracy_mean": mean,
                "accuracy_std": spread,
                "seeds": [run["seed"] for run in runs],
                "noise_multiplier": runs[0]["noise_multiplier"],
                "steps": runs[0]["steps"],
                "command": command(cell),
            }
        )
    return found


def table4(cells: Sequence[Cell], store: Store, trials: Sequence[Cell], tuned: Store) -> str:
    """What the paper claims beside what the runs gave, a line a data set and method."""
    lines = [
        "| data | method | claimed, ε = 2 | measured, ε = 2 | claimed, ε = 4 | measured, ε = 4 | "
        "ε with tuning charged | epochs | minutes a run |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    by_name = {cell.name: cell for cell in cells}
    for data in DATA:
        for method in METHODS:
            claimed = ACCURACY[data][method]
            tried = [trial for trial in trials if trial.name.startswith(f"{data}/{method}/")]
            texts, charged, minutes, epochs = [], [], [], "–"
            for budget, claim in zip(BUDGETS, claimed, strict=True):
                cell = by_name[f"{data}/{method}/{budget:g}"]
                runs = store.runs(cell.name)
                texts += [f"{claim:.2f}", percent(runs)]
                if runs:
                    charged.append(f"{charged_epsilon(runs, tried, tuned):.2f}")
                    minutes += [run["cpu_seconds"] / 60 for run in runs]
                    epochs = f"{runs[0]['steps'] * runs[0]['rate']:.0f}"
            cost = f"{statistics.mean(minutes):.1f}" if minutes else "–"
            lines.append(
                f"| {data} | `{method}` | {' | '.join(texts)} | {', '.join(charged) or '–'} | "
                f"{epochs} | {cost} |"
            )
    return "\n".join(lines)


def percent(runs: Runs) -> str:
    """Mean ± standard deviation in per cent, with the number of runs where it is not three."""
    if not runs:
        return "not run"
    mean, spread = mean_and_spread(runs)
    count = "" if len(runs) == 3 else f" ({len(runs)})"
    more = "" if spread is None else f" ± {100 * spread:.2f}"
    return f"**{100 * mean:.2f}**{more}{count}"


def plan_of(cell: Cell, run: Mapping[str, Any]) -> tuple[Plan, PoissonSampler]:
    """The plan with the noise that a run of a cell had, and its sampler."""
    plan = cell.recipe(0).plan
    unit = plan.phases[-1].pipeline.noiser.noise_multiplier
    sampler = PoissonSampler(run["rate"], SPECS[cell.data].records)  # the rate alone counts
    return plan.scaled_noise(run["noise_multiplier"] / unit), sampler


def event(run: Mapping[str, Any]) -> DpEvent:
    """What a run charged, from the terms that are kept with it: a preset's defaults may change."""
    return ComposedDpEvent(
        [
            SelfComposedDpEvent(PoissonSampledDpEvent(rate, GaussianDpEvent(z)), count)
            for rate, z, count in run["terms"]
        ]
    )


def charged_epsilon(runs: Runs, tried: Sequence[Cell], tuned: Store) -> float:
    """ε of the final run and of choosing its configuration, had the trials been drawn at random.

    The costliest trial's event, a random number of trials, four on average, and scores with
    Gaussian noise of ten records (0.1 points), which cost less than a trial's training.
    """
    final, score = event(runs[0]), GaussianDpEvent(SCORE_NOISE)
    costs = [event(tuned.runs(trial.name)[0]) for trial in tried]
    values = [tuned_epsilon(cost, final, DELTA, score=score).value for cost in costs]
    assert all(value is not None for value in values)
    return max(value for value in values if value is not None)


def chosen_table(tuned: Store, cells: Sequence[Cell]) -> str:
    """Every trial's validation accuracy; the chosen one in bold."""
    lines = [
        "| data | method | trials: batch, learning rate: validation accuracy |",
        "|---|---|---|",
    ]
    by_method: dict[str, list[Cell]] = {}
    for cell in cells:
        by_method.setdefault(cell.name.rpartition("/")[0], []).append(cell)
    for name, tried in by_method.items():
        scored = [(cell, tuned.runs(cell.name)) for cell in tried]
        done = [(cell, runs[0]["accuracy"]) for cell, runs in scored if runs]
        best = max((accuracy for _, accuracy in done), default=None)
        texts = []
        for cell, accuracy in done:
            batch, rate = cell.options["expected_batch"], cell.options["learning_rate"]
            text = f"{batch:g}, {rate:g}: {accuracy:.2%}"
            texts.append(f"**{text}**" if accuracy == best else text)
        data, _, method = name.partition("/")
        quarter = " (a quarter of the steps)" if done and tried[0].share < 1 else ""
        lines.append(f"| {data} | `{method}` | {'; '.join(texts) or 'not run'}{quarter} |")
    return "\n".join(lines)


def simple_table(cells: Iterable[Cell], store: Store, head: str) -> str:
    """A line a cell: its name without the budget, and accuracy."""
    lines = [f"| {head} | ε | accuracy | minutes a run |", "|---|--:|--:|--:|"]
    for cell in cells:
        if runs := store.runs(cell.name):
            name = cell.name.rpartition("/")[0] or cell.name
            spent = runs[0]["epsilon"]
            minutes = statistics.mean(run["cpu_seconds"] for run in runs) / 60
            lines.append(f"| {name} | {spent:.3f} | {percent(runs)} | {minutes:.1f} |")
    return "\n".join(lines)


def theory_table(found: Iterable[Mapping[str, Any]]) -> str:
    """What supports would bring by the theory, along a run."""
    steps = list(found)
    names = list(steps[0]["supports"])
    lines = [
        "| support of 60% | "
        + " | ".join(f"step {s['step']}: ρ, π, progress" for s in steps)
        + " |",
        "|---|" + "--:|" * len(steps),
    ]
    for name in names:
        texts = [
            "{rho:.2f}, {pi:.2f}, **{progress:.2f}**".format(**step["supports"][name])
            for step in steps
        ]
        lines.append(f"| {name} | {' | '.join(texts)} |")
    gains = " | ".join(f"{step['scale_gain']:.2f}" for step in steps)
    lines.append(f"| a scale for each layer: 1 + CV² | {gains} |")
    return "\n".join(lines)


def best_table(cells: Sequence[Cell], store: Store) -> str:
    """The strongest pipelines that were composed, beside the paper's claim for its own method."""
    lines = [
        "| data | ε | row | measured | AdaDPIGU's claim | minutes a run |",
        "|---|--:|---|--:|--:|--:|",
    ]
    for cell in cells:
        if runs := store.runs(cell.name):
            claims = dict(zip(BUDGETS, ACCURACY[cell.data]["adadpigu"], strict=True))
            claim = f"{claims[cell.epsilon]:.2f}" if cell.epsilon in claims else "–"
            minutes = statistics.mean(run["cpu_seconds"] for run in runs) / 60
            lines.append(
                f"| {cell.data} | {cell.epsilon:g} | `{cell.name.split('/')[1]}` | "
                f"{percent(runs)} | {claim} | {minutes:.1f} |"
            )
    return "\n".join(lines)


def rerun_table(tables: Iterable[tuple[Sequence[Cell], Store, Store, Within]]) -> str:
    """New runs of cells, with other seeds, beside the interval that was stated for them.

    Args:
        tables: the cells of each, their runs, the new ones, and the half-width for a new run of a
            cell by the number of its kept runs.
    """
    lines = ["| cell | mean of its runs | a new run lies within | new runs |", "|---|--:|--:|---|"]
    for cells, store, again, within in tables:
        for cell in cells:
            runs, kept = again.runs(cell.name), store.runs(cell.name)
            if runs and kept:
                mean, _ = mean_and_spread(kept)
                width = within(cell).get(len(kept), math.nan)
                texts = [
                    f"{100 * run['accuracy']:.2f} (seed {run['seed']}"
                    + (")" if abs(run["accuracy"] - mean) <= width else ", **outside**)")
                    for run in runs
                ]
                row = (cell.name, f"{100 * mean:.2f}", f"± {100 * width:.2f}", ", ".join(texts))
                lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def first_table(measured: Iterable[Mapping[str, Any]]) -> str:
    """For each data set and budget the strongest row of the data file, and the next of a net."""
    lines = ["| data | ε | strongest here | strongest net from pixels |", "|---|--:|---|---|"]
    found = [row for row in measured if row["accuracy_std"] is not None]  # one run has no spread
    found.sort(key=lambda row: -row["accuracy_mean"])
    for data in DATA:
        for budget in sorted({r["target_epsilon"] for r in found if r["dataset"] == data}):
            here = [r for r in found if (r["dataset"], r["target_epsilon"]) == (data, budget)]
            nets = [r for r in here if r["method"] in NETS]
            texts = [
                f"`{r['method']}`, {100 * r['accuracy_mean']:.2f} ± {100 * r['accuracy_std']:.2f}"
                for group in (here, nets)
                for r in group[:1]
            ]
            texts += ["–"] * (2 - len(texts))
            lines.append(f"| {data} | {budget:g} | {' | '.join(texts)} |")
    return "\n".join(lines)


def write(path: Path, value: Any) -> None:
    """A data file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n")
