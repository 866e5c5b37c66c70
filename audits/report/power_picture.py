"""The picture of an audit's power against its canaries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from dpigu.audits.statistics import ENOUGH, PowerPlan
from dpigu.dpcore import DataError
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, ScalarFormatter

COLOURS = ("#9ca3af", "#1d4ed8", "#c2410c", "#111827", "#0f766e", "#7c3aed")


def draw_power(plan: PowerPlan, path: Path) -> None:
    """A line a violation, power against canaries; .png or .svg.

    Raises: DataError for another ending, or a file that cannot be written.
    """
    if path.suffix not in (".png", ".svg"):
        raise DataError("a picture ends in .png or .svg", where=str(path))
    style: dict[Any, Any] = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(6.4, 4), dpi=144, layout="constrained")
        axes = figure.subplots()
        for i, violation in enumerate(plan.violations):
            true = "∞" if violation.epsilon is None else f"{violation.epsilon:.3g}"
            name = f"{violation.noise:g} σ: true ε = {true}"
            if violation.noise == 1:
                name = "as claimed: false alarms"
            colour = COLOURS[i % len(COLOURS)]
            axes.plot(plan.canaries, violation.power, marker="o", ms=4, color=colour, label=name)
        axes.axhline(ENOUGH, color="0.7", lw=1, ls=":")
        axes.set_xscale("log")
        axes.set_xticks(plan.canaries)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("canaries")
        axes.set_ylabel("audits that contradict the run")
        axes.set_title(f"Claim: ε = {plan.epsilon:.3g} at δ = {plan.delta:g}")
        axes.legend(frameon=False)
        try:
            figure.savefig(path)
        except OSError as error:
            raise DataError(
                f"the picture cannot be written: {error.strerror}", where=str(path)
            ) from error
