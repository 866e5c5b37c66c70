"""The picture of a run: its first held-out metric and ε over the steps."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from dpigu.accountants.base import rounded_up
from dpigu.trainers.runs.folder import printable
from dpigu.trainers.tasks.metrics import SHARES, titled, told
from matplotlib.figure import Figure


def drawn(metrics: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> bytes:
    """The first metric, if there is one, above ε, against the same steps, as a PNG."""
    name = next(iter(summary["metrics"]), None)
    private = bool(summary["private"])
    panels = max(1, (name is not None) + private)
    with matplotlib.rc_context(
        {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    ):
        figure = Figure(figsize=(7, 1.4 + 1.8 * panels), dpi=144, layout="constrained")
        axes = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
        if name is not None:
            percent = name in SHARES
            _line(axes[0], metrics, f"test_{name}", "tab:blue", 100 if percent else 1)
            axes[0].set_ylabel(f"held-out {titled(name)}" + (", %" if percent else ""))
        if private:
            _line(axes[-1], metrics, "epsilon", "tab:red")
            axes[-1].set_ylabel(f"ε at δ = {summary['delta']:g}")
            if summary["target_epsilon"] is not None:
                axes[-1].axhline(summary["target_epsilon"], color="0.5", lw=1, ls="--")
                axes[-1].annotate(
                    f"target ε = {summary['target_epsilon']:g}",
                    (0.01, summary["target_epsilon"]),
                    xycoords=("axes fraction", "data"),
                    xytext=(0, 3),
                    textcoords="offset points",
                    ha="left",
                    color="0.35",
                )
            axes[1].set_ylim(bottom=0)
        axes[-1].set_xlabel("step")
        claim = f"ε = {rounded_up(summary['epsilon'], 3)}" if private else "not private"
        named = printable(f"{summary['preset']} on {summary['data']}")
        reached = "" if name is None else f"{told(name, summary[f'test_{name}'])}, "
        figure.suptitle(f"{named}: {reached}{claim}")
        file = io.BytesIO()
        figure.savefig(file)
    return file.getvalue()


def _line(
    axes: Any, metrics: Sequence[Mapping[str, Any]], name: str, colour: str, scale: int = 1
) -> None:
    """One metric against the steps, where it is defined."""
    points = [(m["step"], scale * m[name]) for m in metrics if m[name] is not None]
    axes.grid(alpha=0.25)
    axes.margins(x=0.08)
    if not points:
        return
    steps, values = zip(*points, strict=True)
    axes.plot(steps, values, marker="o", ms=4, color=colour)
    axes.annotate(
        f"{values[-1]:.4g}",
        (steps[-1], values[-1]),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        color=colour,
    )
