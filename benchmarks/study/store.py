"""A table's results: a file of cells, each with its runs; written whole after every run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from benchmarks.study.cells import Cell

RESULTS = Path(__file__).resolve().parents[1] / "results" / "study"


class Store:
    """The runs of a table's cells, in `folder`/`table`.json."""

    def __init__(self, folder: Path, table: str) -> None:
        self.path = folder / f"{table}.json"
        self.cells: dict[str, dict[str, Any]] = {}
        if self.path.is_file():
            self.cells = json.loads(self.path.read_text())

    def missing(self, cell: Cell, seeds: tuple[int, ...]) -> list[int]:
        """The seeds that have no run yet; an error if the kept runs are of other options."""
        self.check(cell)
        done = {run["seed"] for run in self.runs(cell.name)}
        return [seed for seed in seeds if seed not in done]

    def check(self, cell: Cell) -> None:
        """An error if the kept runs of a cell, where there are any, are of other options."""
        asked = _plain(cell.configuration())
        kept = self.cells.get(cell.name, {"configuration": asked})["configuration"]
        if kept != asked:
            keys = [key for key in {**kept, **asked} if kept.get(key) != asked.get(key)]
            raise click.ClickException(
                f"{cell.name}: its kept runs have another configuration: "
                + "; ".join(f"{key} {kept.get(key)} there, {asked.get(key)} here" for key in keys)
                + f". Take the cell out of {self.path}, or give another --results."
            )

    def add(self, cell: Cell, run: Mapping[str, Any]) -> None:
        """Keep a run."""
        new: dict[str, Any] = {"configuration": _plain(cell.configuration()), "runs": []}
        entry = self.cells.setdefault(cell.name, new)
        entry["runs"] = sorted([*entry["runs"], dict(run)], key=lambda kept: kept["seed"])
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.cells, indent=1) + "\n")
        os.replace(part, self.path)

    def runs(self, name: str) -> list[dict[str, Any]]:
        """The kept runs of a cell, by seed."""
        return self.cells.get(name, {"runs": []})["runs"]


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back."""
    found: dict[str, Any] = json.loads(json.dumps(value))
    return found
