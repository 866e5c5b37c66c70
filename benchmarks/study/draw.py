"""Fills docs/results.md, docs/results/*.json and the pictures from the kept runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from dpigu.accountants import get_accountant

from benchmarks.study import features, jpeg, pictures, report, sparse, table3, windows
from benchmarks.study.cells import Cell
from benchmarks.study.store import Store
from benchmarks.study.tables import TABLES

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "results.md"
FILES = ROOT / "docs" / "results"
PICTURES = ROOT / "docs" / "pictures"


def draw(results: Path) -> None:
    """Every table, data file and picture that has runs."""
    cells = {name: make() for name, make in TABLES.items()}
    stores = {name: Store(results, name) for name in TABLES}
    for name, store in stores.items():
        for cell in cells[name]:
            store.check(cell)
    reruns = {name: Store(results / "reruns", name) for name in ("table4", "best")}
    for name, again in reruns.items():
        for cell in cells[name]:
            again.check(cell)
    spreads = {name: _spreads(cells[name], stores[name]) for name in reruns}
    tables = [
        (cells[name], stores[name], again, partial(_width, spreads[name]))
        for name, again in reruns.items()
    ]
    blocks: dict[str, str] = {
        "tune": report.chosen_table(stores["tune"], cells["tune"]),
        "table4": report.table4(cells["table4"], stores["table4"], cells["tune"], stores["tune"]),
        "spread": _spread(spreads["table4"]),
        "rerun": report.rerun_table(tables),
        "best": report.best_table(cells["best"], stores["best"]),
        "ablation": report.simple_table(cells["ablation"], stores["ablation"], "FashionMNIST"),
        "digits": report.simple_table(cells["digits"], stores["digits"], "digits"),
        "pruning": report.simple_table(cells["pruning"], stores["pruning"], "MNIST"),
        "figure8": report.simple_table(cells["figure8"], stores["figure8"], "MNIST"),
        "missing": _missing(cells["table4"], stores["table4"]),
    }
    implied = table3.table3()
    blocks["table3"] = table3.table3_text(implied)
    report.write(FILES / "table3.json", implied)
    measured = report.rows(cells["table4"], stores["table4"])
    measured += report.rows(cells["best"], stores["best"])
    report.write(FILES / "table4.json", measured)
    blocks["first"] = report.first_table(measured)
    theory = results / "theory.json"
    if theory.is_file():
        blocks["theory"] = report.theory_table(json.loads(theory.read_text()))
    shares = results / "shares.json"
    if shares.is_file():
        blocks["shares"] = sparse.table(json.loads(shares.read_text()))
    if stores["reviews-trials"].cells:
        blocks["reviews-trials"] = sparse.trials_table(stores["reviews-trials"])
    if stores["reviews"].cells:
        blocks["reviews"] = report.simple_table(cells["reviews"], stores["reviews"], "reviews")
    made: Mapping[str, Callable[[Any], str]]
    made = {"features": features.table, "jpeg": jpeg.table, "windows": windows.table}
    for name, table in made.items():
        path = results / f"{name}.json"
        if path.is_file():
            blocks[name] = table(json.loads(path.read_text()))
    _pictures(cells, stores)
    text = PAGE.read_text(encoding="utf-8")
    for name, block in blocks.items():
        text = _filled(text, name, block)
    PAGE.write_text(text, encoding="utf-8")


def _filled(text: str, name: str, block: str) -> str:
    """The page with a block between its two markers."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    if not after:
        raise SystemExit(f"{PAGE} has no markers {begin} and {end}")
    return f"{before}{begin}\n\n{block}\n\n{end}{after}"


def _spreads(cells: Sequence[Cell], store: Store) -> dict[tuple[str, str], report.Spread]:
    """The pooled spread of runs, and the width for a new run, by data set and kind of model."""
    groups: dict[tuple[str, str], list[report.Runs]] = {}
    for cell in cells:
        groups.setdefault(_kind(cell), []).append(store.runs(cell.name))
    return {kind: report.spread_of_a_new_run(runs) for kind, runs in groups.items()}


def _kind(cell: Cell) -> tuple[str, str]:
    return cell.data, "nets" if cell.preset in report.NETS else "linear on features"


def _width(spreads: Mapping[tuple[str, str], report.Spread], cell: Cell) -> Mapping[int, float]:
    """By the number of a cell's runs, the half-width for a new one."""
    return spreads[_kind(cell)][1]


def _spread(spreads: Mapping[tuple[str, str], report.Spread]) -> str:
    """How far a new run may fall from a cell's mean."""
    lines = [
        "| data | model | pooled standard deviation | a new run lies within |",
        "|---|---|--:|--:|",
    ]
    for (data, kind), (pooled, within) in spreads.items():
        if within:
            widths = ", ".join(f"± {100 * w:.2f} ({n} runs)" for n, w in within.items())
            lines.append(f"| {data} | {kind} | {100 * pooled:.2f} | {widths} |")
    return "\n".join(lines)


def _missing(cells: Sequence[Cell], store: Store) -> str:
    """The cells that were not run, with their command."""
    absent = [cell for cell in cells if not store.runs(cell.name)]
    if not absent:
        return "Every cell was run."
    lines = [f"- {cell.name}: `{report.command(cell)}`" for cell in absent]
    return "\n".join(["Not run:", "", *lines])


def _pictures(cells: Mapping[str, Sequence[Cell]], stores: Mapping[str, Store]) -> None:
    """Every picture whose table has runs."""
    table4 = stores["table4"]
    if table4.cells:
        pictures.claimed_and_measured(table4, PICTURES / "results-table4.png")
    along = [c for c in cells["table4"] if c.data == "mnist" and c.preset == "adadpigu"]
    if all(table4.runs(cell.name) for cell in along):
        spent = {cell.name: spent_along(cell, table4.runs(cell.name)[0]) for cell in along}
        pictures.over_time(along, table4, spent, PICTURES / "results-figure6.png")
    if stores["pruning"].cells:
        each = cells["pruning"], stores["pruning"]
        pictures.pruning_over_time(*each, PICTURES / "results-figure5.png")
        pictures.pruning(*each, PICTURES / "results-figure7.png")
    if stores["figure8"].cells:
        pictures.batch_and_rate(
            cells["figure8"], stores["figure8"], PICTURES / "results-figure8.png"
        )
    for name in ("ablation", "digits"):
        if stores[name].cells:
            at_two = [cell for cell in cells[name] if cell.epsilon == 2.0]
            pictures.parts(at_two, stores[name], PICTURES / f"results-{name}.png")


def spent_along(cell: Cell, run: Mapping[str, Any]) -> list[tuple[int, float]]:
    """ε after each point of a run, by PRV: of the steps until then, phase after phase."""
    plan, sampler = report.plan_of(cell, run)
    found = []
    for step, _ in run["points"]:
        left, phases = step, []
        for phase in plan.phases:
            if taken := min(left, phase.steps):
                phases.append(replace(phase, steps=taken))
            left -= taken
        event = replace(plan, phases=tuple(phases)).event(sampler)
        value = get_accountant("prv").epsilon(event, run["delta"]).value
        assert value is not None
        found.append((step, value))
    return found
