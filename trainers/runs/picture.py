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

STYLE: Any = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}


def drawn(metrics: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> bytes:
    """The picture as a PNG."""
    file = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        picture(metrics, summary).savefig(file)
    return file.getvalue()


def picture(metrics: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> Figure:
    """The first metric, if there is one, above ε, against the same steps."""
    name = next(iter(summary["metrics"]), None)
    private = bool(summary["private"])
    panels = max(1, (name is not None) + private)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 1.4 + 1.8 * panels), dpi=144, layout="constrained")
        axes = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
        if name is not None:
            percent = name in SHARES
            _line(axes[0], metrics, f"test_{name}", "tab:blue", 100 if percent else 1)
            axes[0].set_ylabel(f"held-out {titled(name)}" + (", %" if percent else ""))
        if private:
            _line(axes[-1], metrics, "epsilon", "tab:red", bounded=True)
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
    return figure


def _line(
    axes: Any,
    metrics: Sequence[Mapping[str, Any]],
    name: str,
    colour: str,
    scale: int = 1,
    *,
    bounded: bool = False,
) -> None:
    """One metric against the steps, where it is defined; its last value beside the line's end.

    Args:
        bounded: it stays below a line of its own: the value is rounded up, and stands lower than
            the point, so that no line goes through it.
    """
    points = [(m["step"], scale * m[name]) for m in metrics if m[name] is not None]
    axes.grid(alpha=0.25)
    axes.margins(x=0.08)
    if not points:
        return
    steps, values = zip(*points, strict=True)
    axes.plot(steps, values, marker="o", ms=4, color=colour)
    axes.annotate(
        rounded_up(values[-1], 3) if bounded else f"{values[-1]:.4g}",
        (steps[-1], values[-1]),
        xytext=(6, -2 if bounded else 0),
        textcoords="offset points",
        va="top" if bounded else "center",
        color=colour,
    )
