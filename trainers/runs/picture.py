"""The picture of a run: held-out accuracy and ε over the steps."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from dpigu.trainers.runs.folder import printable
from matplotlib.figure import Figure


def drawn(metrics: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> bytes:
    """Accuracy above ε, against the same steps, as a PNG."""
    steps = [m["step"] for m in metrics]
    private = bool(summary["private"])
    with matplotlib.rc_context(
        {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    ):
        figure = Figure(figsize=(7, 5 if private else 3.2), dpi=144, layout="constrained")
        axes = figure.subplots(2 if private else 1, 1, sharex=True, squeeze=False)[:, 0]
        _line(axes[0], steps, [100 * m["test_accuracy"] for m in metrics], "tab:blue")
        axes[0].set_ylabel("held-out accuracy, %")
        if private:
            _line(axes[1], steps, [m["epsilon"] for m in metrics], "tab:red")
            axes[1].set_ylabel(f"ε at δ = {summary['delta']:g}")
            if summary["target_epsilon"] is not None:
                axes[1].axhline(summary["target_epsilon"], color="0.5", lw=1, ls="--")
                axes[1].annotate(
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
        claim = f"ε = {summary['epsilon']:.3f}" if private else "not private"
        named = printable(f"{summary['preset']} on {summary['data']}")
        figure.suptitle(f"{named}: {summary['test_accuracy']:.2%}, {claim}")
        file = io.BytesIO()
        figure.savefig(file)
    return file.getvalue()


def _line(axes: Any, steps: Sequence[int], values: Sequence[float], colour: str) -> None:
    axes.plot(steps, values, marker="o", ms=4, color=colour)
    axes.annotate(
        f"{values[-1]:.4g}",
        (steps[-1], values[-1]),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        color=colour,
    )
    axes.grid(alpha=0.25)
    axes.margins(x=0.08)
