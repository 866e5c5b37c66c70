"""The picture of a model's audit: scores by coin, and the lower bound against guesses."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from audits.bounds import OneRunResult, Reals


def draw(verdict: str, test: OneRunResult, scores: Sequence[float], coins: Sequence[int]) -> bytes:
    """A PNG: the canaries' scores, in and out, beside the bounds of every planned guess count."""
    with matplotlib.rc_context(
        {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    ):
        figure = Figure(figsize=(9, 3.8), dpi=144, layout="constrained")
        left, right = figure.subplots(1, 2)
        _histograms(left, np.asarray(scores), np.asarray(coins) == 1)
        _bounds(right, test)
        figure.suptitle(f"{verdict}: ε = {test.epsilon:g}, δ = {test.delta:g}")
        png = io.BytesIO()
        figure.savefig(png, format="png")
    return png.getvalue()


def _histograms(axes: Axes, scores_m: Reals, in_m: NDArray[np.bool_]) -> None:
    shown_m = scores_m.clip(*np.quantile(scores_m, (0.002, 0.998)))
    edges = np.histogram_bin_edges(shown_m, bins=min(40, max(10, len(shown_m) // 15)))
    for kept_m, label, colour in ((in_m, "trained", "tab:red"), (~in_m, "absent", "tab:blue")):
        axes.hist(shown_m[kept_m].tolist(), edges.tolist(), alpha=0.55, color=colour, label=label)
    axes.set_xlabel("score of the canary")
    axes.set_ylabel("canaries")
    axes.legend(frameon=False)


def _bounds(axes: Axes, test: OneRunResult) -> None:
    guesses = [row.guesses for row in test.rows]
    ceilings = [row.ceiling for row in test.rows]
    bounds = [row.lower_bound for row in test.rows]
    axes.plot(guesses, ceilings, color="0.6", ls=":", marker=".", label="if every guess were right")
    axes.plot(guesses, bounds, color="tab:red", marker="o", ms=4, label="lower bound on ε")
    axes.axhline(test.epsilon, color="0.2", lw=1, ls="--", label="claim")
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("guesses")
    axes.set_ylabel(f"ε at {100 * test.confidence:g}% confidence")
    axes.legend(frameon=False)
