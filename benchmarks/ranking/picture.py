"""The ranking as a table and as pictures: means with their 95% intervals over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from scipy.stats import t

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "methods.md"
BEGIN, END = "<!-- ranking: begin -->", "<!-- ranking: end -->"


@dataclass(frozen=True)
class Ranked:
    """A preset at a budget: accuracies in per cent over seeds, and seconds of processor a run."""

    data: str
    preset: str
    epsilon: float | None
    learning_rate: float
    accuracies: tuple[float, ...]
    seconds: float

    @property
    def mean(self) -> float:
        return statistics.mean(self.accuracies)

    @property
    def half_width(self) -> float:
        """Half of Student's 95% interval for the mean over new seeds; NaN for one run."""
        n = len(self.accuracies)
        if n < 2:
            return float("nan")
        return float(t.ppf(0.975, n - 1)) * statistics.stdev(self.accuracies) / n**0.5


def fill(rows: Sequence[Ranked], data: Sequence[str], budgets: Sequence[float]) -> None:
    """Write the table between its markers in docs/methods.md, and a picture a data set."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    blocks = []
    for name in data:
        mine = [row for row in rows if row.data == name]
        if mine:
            draw(mine, budgets, DOCS / "pictures" / f"ranking-{name}.png")
            blocks.append(f"![{name}, ranked](pictures/ranking-{name}.png)")
            blocks.append(table(mine, budgets))
    text = "\n\n".join(blocks)
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def in_order(rows: Sequence[Ranked], budgets: Sequence[float]) -> list[str]:
    """The presets by their mean at the larger budget, the best first."""
    last = {row.preset: row.mean for row in rows if row.epsilon in (budgets[-1], None)}
    return sorted(last, key=lambda preset: -last[preset])


def table(rows: Sequence[Ranked], budgets: Sequence[float]) -> str:
    """One line a preset, with a column a budget."""
    kept = {(row.preset, row.epsilon): row for row in rows}
    head = " | ".join(f"{rows[0].data}, ε = {budget:g}" for budget in budgets)
    lines = [
        f"| preset | {head} | learning rate | seconds |",
        "|---|" + "--:|" * (len(budgets) + 2),
    ]
    for preset in in_order(rows, budgets):
        found = [kept.get((preset, e), kept.get((preset, None))) for e in budgets]
        shown = " | ".join(f"{r.mean:.1f} ± {r.half_width:.1f}" if r else "–" for r in found)
        one = next(row for row in found if row)
        lines.append(f"| `{preset}` | {shown} | {one.learning_rate:g} | {one.seconds:.0f} |")
    return "\n".join(lines)


def draw(rows: Sequence[Ranked], budgets: Sequence[float], path: Path) -> None:
    """A point and an interval a preset and budget, in the order of the table."""
    presets = in_order(rows, budgets)[::-1]
    with matplotlib.rc_context({"font.size": 10, "axes.spines.right": False}):
        figure = Figure(figsize=(8, 0.26 * len(presets) + 1.4), layout="constrained")
        ax = figure.add_subplot()
        marks = zip((*budgets, None), ("o", "s", "D"), ("#d55e00", "#0072b2", "0.3"), strict=True)
        for epsilon, shape, colour in marks:
            mine = [row for row in rows if row.epsilon == epsilon]
            ax.errorbar(
                [row.mean for row in mine],
                [presets.index(row.preset) for row in mine],
                xerr=[row.half_width for row in mine],
                fmt=shape,
                color=colour,
                ms=4,
                capsize=3,
                label="not private" if epsilon is None else f"ε = {epsilon:g}",
            )
        ax.set_yticks(range(len(presets)), presets)
        ax.set_xlabel("accuracy on held-out records, %: mean and its 95% interval over seeds")
        ax.set_title(rows[0].data)
        ax.grid(axis="x", alpha=0.3)
        ax.margins(y=0.02)
        ax.legend(loc="upper left", frameon=False)
        figure.savefig(path, dpi=130)
