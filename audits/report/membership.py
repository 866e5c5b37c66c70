"""The part of a report's page that shows membership inference on a run's own records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import matplotlib
from dpigu.audits.report.figures import GREY, SIZE, STYLE, svg_of
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

TITLE = "The run's own records: who can be told from those held out"
COLOURS = {
    "loss": "#a16207",
    "lira-offline": "#0891b2",
    "lira-online": "#be185d",
    "rmia": "#4d7c0f",
}
"""Of the attacks alone: no other figure of a page has them."""
DASHES = {"loss": ":", "lira-offline": "--", "lira-online": "-", "rmia": "-."}


def membership_section(data: Mapping[str, Any] | None) -> str:
    """The section's HTML, from a report's `membership`; nothing without it."""
    if data is None:
        return ""
    label = "Found members against wrongly accused records, for each attack"
    assumed = "".join(f"<li>{escape(line)}</li>" for line in data["assumptions"])
    return (
        f"<section><h2>{escape(TITLE)}</h2>"
        f'<p class="how">{escape(data["sentence"])}</p><div class="grid wide">'
        f'<figure class="card"><h3>{escape("Who can be found, by which attack")}</h3>'
        f'<div role="img" aria-label="{label}">{_roc(data)}</div><figcaption>For every rate of '
        "wrongly accused records, how many of the trained ones are found. What lies on the grey "
        "line is blind guessing. The band is the interval of the strongest attack.</figcaption>"
        f'</figure><div class="card">{_table(data)}<p>{escape(_sides(data))}</p></div>'
        f'<div class="card"><h3>What each attack asks</h3><dl>{_asked(data)}</dl></div>'
        f'<div class="card"><h3>What these figures rest on</h3><ul>{assumed}</ul>'
        f"<p>{escape(data['note'])}</p></div></div></section>"
    )


def strongest(attacks: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The attack with the largest AUC; chosen after the fact, which flatters it a little."""
    return max(attacks, key=lambda attack: float(attack["auc"]["value"]))


def membership_rows(data: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Title, AUC, TPR at each small rate, each with its interval, of each attack, as text."""
    rows = []
    for attack in data["attacks"]:
        area = attack["auc"]
        cells = [f"{area['value']:.3f} ({area['low']:.3f} to {area['high']:.3f})"]
        cells += [f"{t['value']:.2%} ({t['low']:.2%} to {t['high']:.2%})" for t in attack["tpr"]]
        rows.append((attack["title"], *cells))
    return rows


def membership_head(data: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns' names."""
    return ("attack", "AUC", *(f"TPR at {t['fpr']:.1%} FPR" for t in data["attacks"][0]["tpr"]))


def _table(data: Mapping[str, Any]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in membership_head(data))
    rows = ""
    for title, *cells in membership_rows(data):
        values = (cell.replace(" (", "\n(", 1).split("\n") for cell in cells)
        inside = "".join(f"<td><b>{escape(v)}</b><br>{escape(i)}</td>" for v, i in values)
        rows += f"<tr><td>{escape(title)}</td>{inside}</tr>"
    return f"<table><tr>{head}</tr>{rows}</table>"


def _sides(data: Mapping[str, Any]) -> str:
    by = f"by {data['shadows']} shadow models" if data["shadows"] else "without shadow models"
    return (
        f"{data['members']} members, {data['non_members']} non-members, {by}; intervals at "
        f"{100 * data['confidence']:g}%. AUC 0.5 is blind guessing, 1 separates all records; TPR "
        "is the share of members found, FPR that of non-members wrongly accused."
    )


def _asked(data: Mapping[str, Any]) -> str:
    return "".join(
        f"<dt>{escape(a['title'])}</dt><dd>{escape(a['asks'])}</dd>" for a in data["attacks"]
    )


def _roc(data: Mapping[str, Any]) -> str:
    """Every attack's ROC curve, and the band of the strongest; both axes logarithmic."""
    best = strongest(data["attacks"])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        floor = 0.01
        for attack in data["attacks"]:
            x, y, low, high = (
                [point[key] for point in attack["roc"]] for key in ("fpr", "tpr", "low", "high")
            )
            floor = min(floor, x[0])
            colour, dash = COLOURS[attack["name"]], DASHES[attack["name"]]
            if attack is best:
                axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0, label="interval")
            axes.plot(x, y, color=colour, ls=dash, lw=1.7, label=attack["title"])
        axes.plot([floor, 1], [floor, 1], color=GREY, lw=1, label="guessing blindly")
        axes.set(xscale="log", yscale="log", xlim=(floor, 1), ylim=(floor, 1.1))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        axes.set_xlabel("wrongly accused (false-positive rate)")
        axes.set_ylabel("found (true-positive rate)")
        axes.legend(loc="lower right")
        return svg_of(figure)
