"""The table and the pictures of `published_adadpigu.py`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import matplotlib
from dpigu.audits import AuditReport, Verdict
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

RED, BLUE, INK = "#c2410c", "#1d4ed8", "#111827"


class Finding(Protocol):
    """One audit: what was trained, where it looked, and what came out."""

    @property
    def version(self) -> str: ...
    @property
    def observe(self) -> str: ...
    @property
    def leaky(self) -> bool: ...
    @property
    def accuracy(self) -> float: ...
    @property
    def report(self) -> AuditReport: ...
    @property
    def scores_m(self) -> Tensor: ...
    @property
    def coins_m(self) -> Tensor: ...


def table(found: Sequence[Finding], epsilon: float) -> str:
    """The findings in Markdown."""
    lines = [
        f"| trained | audit observations at | p-value at ε = {epsilon:g} | lower bound | verdict "
        "| accuracy |",
        "|---|---|---|---|---|---|",
    ]
    for f in found:
        p = "below 1e-12" if (f.report.p_value or 0.0) < 1e-12 else f"{f.report.p_value:.2g}"
        bound = f"ε ≥ {_down(f.report.lower_bound or 0.0)}"
        cells = (
            f.version,
            f.observed,
            p,
            bound,
            str(f.report.verdict),
            f"{f.accuracy:.1%}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw_bounds(axes: Axes, found: Sequence[Finding], epsilon: float) -> None:
    """What each audit shows, against the claim."""
    for y, f in enumerate(reversed(found)):
        broken = f.report.verdict is Verdict.CONTRADICTED
        bound = f.report.lower_bound or 0.0
        axes.barh(y, bound, color=RED if broken else BLUE, height=0.62)
        text = f"≥ {_down(bound)}{', contradicted' if broken else ''}"
        axes.text(bound + 0.08, y, text if bound > 0 else "nothing shown", va="center", fontsize=9)
    names = [f"{f.version}: its {f.observed}" for f in reversed(found)]
    axes.set_yticks(range(len(found)), names)
    axes.tick_params(axis="y", length=0)
    axes.axvline(epsilon, color=INK, lw=1.6, ls="--")
    axes.text(epsilon, len(found) - 0.3, f"all claim ε = {epsilon:g}", ha="center", weight="bold")
    axes.set_xlim(0, 1.65 * max(epsilon, *(f.report.lower_bound or 0.0 for f in found)))
    axes.set_ylim(-0.5, len(found) - 0.4)
    axes.set_xlabel("ε that the audit shows to leak, at 95% confidence")


def _down(bound: float) -> str:
    return f"{math.floor(100 * bound) / 100:.2f}"


def draw_scores(axes: Axes, finding: Finding, title: str) -> None:
    """The two heaps of canaries, in and out: apart, they are told from each other."""
    scores_m = finding.scores_m.double()
    low, high = scores_m.quantile(0.002), scores_m.quantile(0.998)
    shown_m = ((scores_m - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)
    for coin, colour, name in ((0, BLUE, "left out"), (1, RED, "trained on")):
        heap = shown_m[finding.coins_m == coin].numpy()
        axes.hist(heap, bins=28, range=(0, 1), color=colour, alpha=0.55, label=name)
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])


def draw(found: Sequence[Finding], epsilon: float, folder: Path) -> None:
    """Both pictures."""
    style: dict[Any, Any] = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(7.4, 3.9), dpi=120, layout="constrained")
        draw_bounds(figure.subplots(), found, epsilon)
        figure.savefig(folder / "leak-bounds.png")
        figure = Figure(figsize=(8.4, 3.9), dpi=120, layout="constrained")
        places = figure.subplots(2, 3)
        for i, leak in enumerate(f for f in found if f.leaky):
            right = next(f for f in found if f.observed == leak.observed and not f.leaky)
            draw_scores(places[0, i], leak, leak.version)
            draw_scores(places[1, i], right, f"{leak.observed}, done right")
        places[1, 1].set_xlabel("how much each crafted record observations trained on")
        figure.legend(
            *places[0, 0].get_legend_handles_labels(),
            loc="outside upper center",
            ncols=2,
            frameon=False,
        )
        figure.savefig(folder / "leak-scores.png")
