"""The pictures of runs: of one, metric above ε and what else moved; of several, side by side."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
from dpigu.accountants.base import rounded_up
from dpigu.trainers.runs.folder import printable
from dpigu.trainers.tasks.metrics import SHARES, titled, told
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(
        color=["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
    )
    + cycler(marker=["o", "s", "^", "D", "v", "P", "X"])
    + cycler(linestyle=["-", "--", "-.", ":", "-", "--", "-."]),
    "axes.grid": True,
    "grid.alpha": 0.25,
    "lines.markersize": 4,
}
"""Colours that colour-blind eyes tell apart (Okabe and Ito 2008), and marks for print in grey."""
BESIDE = {
    "support": ("live coordinates, %", 100),
    "clipped": ("clipped records, %", 100),
    "learning_rate": ("learning rate", 1),
}
"""What is drawn below where it moved: its label and scale."""

Metrics = Sequence[Mapping[str, Any]]


class Curves(NamedTuple):
    """A run as it is drawn: its name, evaluations and summary."""

    name: str
    metrics: Metrics
    summary: Mapping[str, Any]


def drawn(metrics: Metrics, summary: Mapping[str, Any]) -> bytes:
    """One run: its first metric, ε, and below them what else moved, as a PNG."""
    return _png([Curves("", metrics, summary)])


def compared(runs: Sequence[Curves]) -> bytes:
    """Several runs: the same panels, a line for each run, as a PNG."""
    return _png(runs)


def picture(runs: Sequence[Curves]) -> Figure:
    """The panels of one run or of several."""
    first = runs[0].summary
    measured = next(iter(first["metrics"]), None)
    panels = [] if measured is None else [f"test_{measured}"]
    panels += ["epsilon"] if any(run.summary["private"] for run in runs) else []
    large = max(1, len(panels))
    panels += [name for name in BESIDE if any(_moved(run.metrics, name) for run in runs)]
    heights = [2.0] * large + [1.0] * max(0, len(panels) - large)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 1.2 + 0.95 * sum(heights)), dpi=144, layout="constrained")
        grid = {"height_ratios": heights}
        found = figure.subplots(len(heights), 1, sharex=True, squeeze=False, gridspec_kw=grid)
        for axes, name in zip(found[:, 0], panels, strict=False):
            _panel(axes, runs, name)
        found[-1, 0].set_xlabel("step")
        found[-1, 0].xaxis.get_major_locator().set_params(integer=True)
        if len(runs) > 1:
            lines = found[0, 0].get_legend_handles_labels()
            figure.legend(*lines, loc="outside upper left", frameon=False, ncols=3)
        else:
            figure.suptitle(_title(first, measured))
    return figure


def _png(runs: Sequence[Curves]) -> bytes:
    file = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        picture(runs).savefig(file)
    return file.getvalue()


def _panel(axes: Axes, runs: Sequence[Curves], name: str) -> None:
    """One quantity of every run against the steps, with its last value beside a lone line."""
    label, scale = _label(name, [run.summary for run in runs])
    axes.set_title(label, loc="left", fontsize=10)
    axes.margins(x=0.08, y=0.15)
    for run in runs:
        points = [(m["step"], scale * m[name]) for m in run.metrics if m.get(name) is not None]
        if not points:
            continue
        (line,) = axes.plot(*zip(*points, strict=True), label=run.name)
        if len(runs) == 1:
            _last(axes, points[-1], line.get_color(), bounded=name == "epsilon")
    if name == "epsilon":
        axes.set_ylim(bottom=0)
        _targets(axes, runs)


def _last(axes: Axes, point: tuple[float, float], colour: Any, *, bounded: bool) -> None:
    """The last value beside the line's end.

    Args:
        bounded: it stays below a line of its own: the value is rounded up, and stands lower than
            the point, so that no line goes through it.
    """
    value = point[1]
    axes.annotate(
        rounded_up(value, 3) if bounded else f"{value:.4g}" if abs(value) >= 1 else f"{value:.2g}",
        point,
        xytext=(6, -2 if bounded else 0),
        textcoords="offset points",
        va="top" if bounded else "center",
        color=colour,
    )


def _targets(axes: Axes, runs: Sequence[Curves]) -> None:
    """A line at every target ε, its label at the left, where the curve is far below."""
    for target in sorted({r.summary["target_epsilon"] for r in runs} - {None}):
        axes.axhline(target, color="0.5", lw=1, ls=(0, (4, 3)), marker="")
        axes.annotate(
            f"target {target:g}",
            (0.01, target),
            xycoords=("axes fraction", "data"),
            xytext=(0, -3),
            textcoords="offset points",
            va="top",
            color="0.35",
        )


def _label(name: str, summaries: Sequence[Mapping[str, Any]]) -> tuple[str, float]:
    if name == "epsilon":
        deltas = {summary["delta"] for summary in summaries}
        return f"ε at δ = {deltas.pop():g}" if len(deltas) == 1 else "ε, each at its own δ", 1
    if name in BESIDE:
        return BESIDE[name]
    measured = name.removeprefix("test_")
    scale, unit = (100, ", %") if measured in SHARES else (1, "")
    return f"held-out {titled(measured)}{unit}{_baseline(measured, summaries)}", scale


def _baseline(measured: str, summaries: Sequence[Mapping[str, Any]]) -> str:
    """What one answer for all held-out records makes, where all runs have the same."""
    found = [summary.get("baselines", {}).get(measured) for summary in summaries]
    if found[0] is None or found.count(found[0]) < len(found):
        return ""
    return f" ({found[0]['answer']} alone: {told(measured, found[0]['value'])})"


def _moved(metrics: Metrics, name: str) -> bool:
    values = {m.get(name) for m in metrics} - {None}
    return len(values) > 1


def _title(summary: Mapping[str, Any], measured: str | None) -> str:
    claim = f"ε = {rounded_up(summary['epsilon'], 3)}" if summary["private"] else "not private"
    named = printable(f"{summary['preset']} on {summary['data']}")
    reached = "" if measured is None else f"{told(measured, summary[f'test_{measured}'])}, "
    return f"{named}: {reached}{claim}"
