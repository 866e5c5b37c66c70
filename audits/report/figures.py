"""The figures of a report, drawn from its data as SVG that stands alone in a page.

No fonts, scripts, links or metadata come along: a figure names no address outside the page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any

import matplotlib
from dpigu.accountants.base import stated
from dpigu.audits.advice import needed_for_power
from dpigu.audits.wording import down
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, ScalarFormatter

IN, OUT, CLAIM, OWN, GREY = "#c2410c", "#1d4ed8", "#111827", "#0f766e", "#9ca3af"
CEILING, REACH, BEYOND = "#7c3aed", "#ddd6fe", "#e5e7eb"
"""One colour, one meaning: what was observed, who was not in, the claim, the accountant, blind
guessing; the most that could be shown, what lies in its reach, and what is out of bounds."""
SIZE = (4.7, 3.6)
FAR = 4.0
"""How far above all else a claim may lie that is drawn as a line."""
STYLE: dict[Any, Any] = {  # matplotlib types its keys as literals
    "svg.fonttype": "none",
    "svg.hashsalt": "dpigu",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#6b7280",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}


def figures(data: Mapping[str, Any]) -> dict[str, str]:
    """Every figure that the data has something for, by name: SVG text."""
    drawn: dict[str, str] = {}
    if data["ceiling"] is not None:
        drawn["ruler"] = _svg(_ruler, data, (4.7, 1.6))
    if data["histogram"] is not None:
        drawn["scores"] = _svg(_scores, data)
    if data["roc"]:
        drawn["roc"] = _svg(_roc, data)
    if data["tradeoff"] is not None:
        drawn["tradeoff"] = _svg(_tradeoff, data)
    if data["grid"]:
        drawn["bounds"] = _svg(_bounds, data)
    return drawn


def svg_of(figure: Figure) -> str:
    """A figure as SVG to stand inside HTML, as wide as its place."""
    text = io.StringIO()
    none = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context(STYLE):
        figure.savefig(text, format="svg", transparent=True, metadata=none)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"| (width|height)="[\d.]+pt"', "", svg)
    svg = svg.replace("xlink:href", "href")
    used = set(re.findall(r"#([\w-]+)", svg))
    return re.sub(r' id="([\w-]+)"', lambda m: m[0] if m[1] in used else "", svg)


def _svg(draw: Any, data: Mapping[str, Any], size: tuple[float, float] = SIZE) -> str:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots(), data)
        return svg_of(figure)


def _legend(axes: Axes, columns: int = 2) -> None:
    """What each line is, below the axes: nothing drawn lies behind it."""
    assert isinstance(axes.figure, Figure)
    axes.figure.legend(
        loc="outside lower center", ncols=columns, handlelength=1.4, columnspacing=1.2
    )


def _ruler(axes: Axes, data: Mapping[str, Any]) -> None:
    """Claim, bound and ceiling on one scale of ε; a claim far off the scale is an arrow."""
    claim, bound, ceiling = data["claim_epsilon"], data["lower_bound"], data["ceiling"]
    far = claim > 2.5 * max(ceiling, bound, 0.5)
    end = 1.18 * max(ceiling, bound, 0.1, 0.0 if far else claim)
    axes.barh(0, bound, height=0.5, color=IN, label="shown to leak")
    axes.barh(0, ceiling - bound, left=bound, height=0.5, color=REACH, label="in reach")
    axes.barh(0, end - ceiling, left=ceiling, height=0.5, color=BEYOND, label="out of reach")
    place, text = (end, f"claim {stated(claim)} →") if far else (claim, f"claim {stated(claim)}")
    if not far:
        axes.plot([place, place], [-0.42, 0.42], color=CLAIM, lw=2.5)
    side = "right" if place > 0.5 * end else "left"
    axes.text(place, 0.52, text, ha=side, va="bottom", weight="bold", color=CLAIM)
    axes.set_xlim(0, end)
    axes.set_ylim(-0.45, 1.0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("ε: how much one record may show")
    _legend(axes, 3)


def _scores(axes: Axes, data: Mapping[str, Any]) -> None:
    edges = data["histogram"]["edges"]
    for key, name, colour in (("members", "in training", IN), ("non_members", "not in", OUT)):
        axes.stairs(data["histogram"][key], edges, fill=True, alpha=0.45, color=colour, label=name)
    axes.set_xlabel("score (higher: looks trained on)")
    axes.set_ylabel("records")
    _legend(axes)


def _roc(axes: Axes, data: Mapping[str, Any]) -> None:
    x, y, low, high = (
        [point[key] for point in data["roc"]] for key in ("fpr", "tpr", "low", "high")
    )
    floor = min(x[0], 0.01)
    axes.fill_between(x, low, high, color=IN, alpha=0.18, lw=0, label="its interval")
    axes.plot(x, y, color=IN, lw=1.8, label="observed")
    axes.plot([floor, 1], [floor, 1], color=GREY, ls="--", lw=1, label="guessing blindly")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(floor, 1)
    axes.set_ylim(floor, 1.1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axes.set_xlabel("wrongly accused (false-positive rate)")
    axes.set_ylabel("found (true-positive rate)")
    _legend(axes)


def _tradeoff(axes: Axes, data: Mapping[str, Any]) -> None:
    curves = data["tradeoff"]
    axes.fill_between(
        curves["alpha"], curves["claim"], color=BEYOND, lw=0, label="forbidden by the claim"
    )
    axes.plot(curves["alpha"], curves["claim"], color=CLAIM, lw=1.5, label="the claim's limit")
    if curves["own"] is not None:
        axes.plot(curves["alpha"], curves["own"], color=OWN, lw=1.5, label="the accountant's limit")
    if data["roc"]:
        x = [0.0, *(point["fpr"] for point in data["roc"])]
        low, at, high = ([1.0, *(1 - p[k] for p in data["roc"])] for k in ("high", "tpr", "low"))
        axes.fill_between(x, low, high, color=IN, alpha=0.18, lw=0, label="its interval")
        axes.plot(x, at, color=IN, lw=1.8, label="observed")
    axes.plot([0, 1], [1, 0], color=GREY, ls="--", lw=1, label="guessing blindly")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("wrongly accused")
    axes.set_ylabel("missed")
    _legend(axes)


def _bounds(axes: Axes, data: Mapping[str, Any]) -> None:
    guesses, bounds, ceilings = (
        [row[key] for row in data["grid"]] for key in ("guesses", "lower_bound", "ceiling")
    )
    axes.plot(guesses, ceilings, color=CEILING, ls=":", marker=".", label="if all were right")
    axes.plot(guesses, bounds, color=IN, marker="o", ms=4, label="shown by its guesses")
    claim, limit = data["claim_epsilon"], data["limit"]
    lines = [(claim, "the claim", stated(claim), CLAIM, "-")]
    if not data["beyond_guesses"]:
        needed = needed_for_power(claim)
        lines += [(needed, "needed for power", stated(needed), GREY, "--")]
        lines += [(limit, "most with any canaries", down(limit), CEILING, "-")]
    top = max(*ceilings, *bounds, *(line[0] for line in lines if line[0] <= FAR * limit))
    for at, name, value, colour, dash in lines:
        if at <= FAR * limit:
            axes.axhline(at, color=colour, lw=1.4, ls=dash, label=f"{name}: {value}")
    if claim > FAR * limit:
        axes.text(guesses[0], 1.02 * top, f"the claim, {stated(claim)}, is far above ↑")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_ylim(0, 1.1 * top)
    axes.set_xlabel(f"guesses made, of {data['canaries']} canaries")
    axes.set_ylabel("ε: how much leaks")
    _legend(axes)
