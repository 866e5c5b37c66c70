"""The pictures of docs/results.md."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.study.cells import Cell, mean_and_spread
from benchmarks.study.claims import ACCURACY
from benchmarks.study.store import Store
from benchmarks.study.tables import BUDGETS, DATA, METHODS

STYLE: dict[Any, Any] = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
COLOURS = {
    "adadpigu": "tab:red",
    "dpsgd": "tab:orange",
    "dpsur": "tab:green",
    "dpsgd-hf": "tab:blue",
    "dpsgd-ts": "tab:purple",
}


def claimed_and_measured(store: Store, path: Path) -> None:
    """Table 4: every method's measured accuracy, and the paper's claim as a ring."""
    figure, axes = _figure(len(DATA), (11, 4.4))
    for ax, data in zip(axes, DATA, strict=True):
        for at, method in enumerate(METHODS):
            for k, budget in enumerate(BUDGETS):
                place = at + (k - 0.5) * 0.32
                claim = ACCURACY[data][method][k]
                ax.plot(place, claim, "o", mfc="none", color="0.35", ms=7)
                if runs := store.runs(f"{data}/{method}/{budget:g}"):
                    mean, spread = mean_and_spread(runs)
                    ax.errorbar(
                        *(place, 100 * mean, 100 * (spread or 0)),
                        fmt="s" if k else "D",
                        color=COLOURS[method],
                        ms=6,
                        capsize=3,
                    )
        ax.set_xticks(range(len(METHODS)), METHODS, rotation=35, ha="right")
        ax.set_title(data)
        ax.grid(axis="y", alpha=0.25)
    axes[0].set_ylabel("accuracy on test records, %")
    marks = [
        axes[0].plot([], [], shape, color="0.35", mfc=fill)[0]
        for shape, fill in (("D", "0.35"), ("s", "0.35"), ("o", "none"))
    ]
    labels = ["measured, ε = 2", "measured, ε = 4", "claimed by the paper"]
    figure.legend(marks, labels, loc="outside lower center", ncols=3, frameon=False)
    _save(figure, path)


def over_time(cells: Sequence[Cell], store: Store, pld: Mapping[str, Any], path: Path) -> None:
    """Figure 6: accuracy and ε along AdaDPIGU's runs on MNIST."""
    figure, (ax,) = _figure(1, (7, 4.2))
    spent = ax.twinx()
    for cell, colour in zip(cells, ("tab:blue", "tab:red"), strict=True):
        steps, mean, spread = _curve(store.runs(cell.name))
        label = f"target ε = {cell.epsilon:g}"
        ax.errorbar(steps, mean, spread, color=colour, marker="o", ms=4, capsize=2, label=label)
        spent.plot(*zip(*pld[cell.name], strict=True), "--", color=colour)
    ax.set_xlabel("step")
    ax.set_ylabel("accuracy on test records, % (line)")
    spent.set_ylabel("ε spent (dashed)")
    spent.set_ylim(bottom=0)
    spent.spines["right"].set_visible(True)
    ax.legend(frameon=False, loc="lower right")
    ax.grid(alpha=0.25)
    _save(figure, path)


def pruning_over_time(cells: Sequence[Cell], store: Store, path: Path) -> None:
    """Figure 5: accuracy against steps for each pruning rate."""
    figure, (ax,) = _figure(1, (7.5, 4.4))
    shades = matplotlib.colormaps["viridis"]
    for k, cell in enumerate(cells):
        if runs := store.runs(cell.name):
            steps, mean, _ = _curve(runs)
            ax.plot(steps, mean, color=shades(k / len(cells)), label=cell.name)
    ax.set_xlabel("step")
    ax.set_ylabel("accuracy on test records, %")
    ax.legend(frameon=False, fontsize=8)
    ax.grid(alpha=0.25)
    _save(figure, path)


def pruning(cells: Sequence[Cell], store: Store, path: Path) -> None:
    """Figure 7: accuracy at the last step against the pruning rate."""
    figure, (ax,) = _figure(1, (6.5, 4))
    found = [
        (float(cell.name.split()[-1]), *mean_and_spread(runs))
        for cell in cells
        if (runs := store.runs(cell.name))
    ]
    rates, means, spreads = zip(*found, strict=True)
    ax.errorbar(
        rates,
        [100 * m for m in means],
        [100 * (s or 0) for s in spreads],
        marker="o",
        capsize=3,
        color="tab:red",
        label="static mask by released importance",
    )
    ax.axhline(100 * means[0], ls="--", color="0.4", label="no pruning")
    ax.set_xlabel("pruning rate, 1 − r")
    ax.set_ylabel("accuracy on test records, %")
    ax.legend(frameon=False)
    ax.grid(alpha=0.25)
    _save(figure, path)


def batch_and_rate(cells: Sequence[Cell], store: Store, path: Path) -> None:
    """Figure 8: accuracy against ε, a colour a batch and a size a learning rate; and time."""
    figure, (ax, time) = _figure(2, (10, 4.2))
    batches = sorted({cell.options["expected_batch"] for cell in cells})
    shades = matplotlib.colormaps["viridis"]
    for cell in cells:
        runs = store.runs(cell.name)
        if not runs:
            continue
        batch, rate = cell.options["expected_batch"], cell.options["learning_rate"]
        mean, spread = mean_and_spread(runs)
        colour = shades(batches.index(batch) / len(batches))
        size = 5 + 3 * math.log2(rate)
        minutes = statistics.mean(run["cpu_seconds"] for run in runs) / 60
        for axes, x in ((ax, runs[0]["epsilon"]), (time, minutes)):
            label = f"batch {batch:g}, learning rate {rate:g}"
            y, error = 100 * mean, 100 * (spread or 0)
            axes.errorbar(x, y, error, fmt="o", ms=size, color=colour, capsize=2, label=label)
    ax.set_xlabel("ε")
    time.set_xlabel("CPU minutes a run")
    ax.set_ylabel("accuracy on test records, %")
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
    for axes in (ax, time):
        axes.grid(alpha=0.25)
    _save(figure, path)


def parts(cells: Sequence[Cell], store: Store, path: Path) -> None:
    """The ablation: each variant's accuracy with its runs, the baseline as a line."""
    done = [(cell, store.runs(cell.name)) for cell in cells if store.runs(cell.name)]
    figure, (ax,) = _figure(1, (8, 0.5 + 0.32 * len(done)))
    for at, (_, runs) in enumerate(done):
        mean, _ = mean_and_spread(runs)
        ax.plot([100 * run["accuracy"] for run in runs], [at] * len(runs), "o", color="0.6", ms=4)
        ax.plot(100 * mean, at, "D", color="tab:red", ms=6)
    mean, _ = mean_and_spread(done[0][1])
    ax.axvline(100 * mean, ls="--", color="0.4")
    ax.set_yticks(range(len(done)), [cell.name.rpartition("/")[0] for cell, _ in done])
    ax.invert_yaxis()
    ax.set_xlabel("accuracy on test records, %: runs (grey) and their mean; dashed: neither part")
    ax.grid(axis="x", alpha=0.25)
    _save(figure, path)


def _curve(runs: Iterable[Mapping[str, Any]]) -> tuple[list[int], list[float], list[float]]:
    """Steps, mean accuracy and its standard deviation over runs, in per cent."""
    curves = [run["points"] for run in runs]
    steps = [point[0] for point in curves[0]]
    columns = [[100 * curve[k][1] for curve in curves] for k in range(len(steps))]
    spreads = [statistics.stdev(column) if len(column) > 1 else 0.0 for column in columns]
    return steps, [statistics.mean(column) for column in columns], spreads


def _figure(count: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, dpi=130, layout="constrained")
        return figure, [figure.add_subplot(1, count, k + 1) for k in range(count)]


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        figure.savefig(path)
