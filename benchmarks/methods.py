"""Every preset on digits: accuracy over seeds, ε, time, and what the mechanism audit says.

    python -m benchmarks.methods [--seeds 3] [--preset NAME ...] [--data digits]

Writes a line of JSON a preset to standard output, and a table to the file given with --table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterable
from pathlib import Path

from dpigu.audits.mechanism import audit_mechanism
from dpigu.mechanisms import PRESETS
from dpigu.trainers import train
from dpigu.trainers.models.registry import build_model
from dpigu.trainers.recipes.recipe import recipe_for


def measured(name: str, data_name: str, seeds: Iterable[int]) -> dict[str, object]:
    """One preset: accuracies over seeds, ε, seconds a run, and the quick audit of its plan."""
    accuracies, seconds, epsilon = [], [], None
    calibrated: dict[str, float] = {}
    for seed in seeds:
        recipe = recipe_for(name, data_name, seed=seed, evaluations=1, **calibrated)
        data = recipe.load_data(progress=False)
        model = build_model(recipe.model_for(data.spec), data.spec, seed)
        public = recipe.load_public(data.spec, progress=False)
        began = time.perf_counter()
        run = train(recipe.plan, data, model, recipe.settings, public=public, progress=False)
        seconds.append(time.perf_counter() - began)
        accuracies.append(run.summary["test_accuracy"])
        epsilon = run.summary["epsilon"]
        if recipe.plan.private:  # the same noise for every seed, calibrated once
            calibrated = {"noise_multiplier": run.summary["noise_multiplier"]}
    audit = audit_mechanism(recipe.plan, quick=True) if recipe.plan.private else None
    return {
        "preset": name,
        "data": data_name,
        "accuracy_mean": statistics.mean(accuracies),
        "accuracy_std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "epsilon": epsilon,
        "seconds": statistics.median(seconds),
        "audit": audit.verdict.value if audit is not None else None,
    }


def table(rows: Iterable[dict[str, object]]) -> str:
    """The rows as a table in Markdown."""
    lines = ["| preset | accuracy | ε | quick audit | seconds |", "|---|---|---|---|---|"]
    for row in rows:
        spread = f" ± {row['accuracy_std']:.2%}" if row["accuracy_std"] is not None else ""
        epsilon = "–" if row["epsilon"] is None else f"{row['epsilon']:.3f}"
        lines.append(
            f"| `{row['preset']}` | {row['accuracy_mean']:.2%}{spread} | {epsilon} | "
            f"{row['audit'] or '–'} | {row['seconds']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--preset", action="append", choices=tuple(PRESETS))
    parser.add_argument("--table", type=Path)
    given = parser.parse_args()
    rows = []
    for name in given.preset or PRESETS:
        rows.append(measured(name, given.data, range(given.seeds)))
        print(json.dumps(rows[-1]), flush=True)
    if given.table is not None:
        given.table.write_text(table(rows))


if __name__ == "__main__":
    main()
