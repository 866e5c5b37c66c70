"""Correlated noise against independent noise: in the weights by formula, and trained on digits.

    python -m benchmarks.correlated_noise error
    python -m benchmarks.correlated_noise columns
    python -m benchmarks.correlated_noise digits [--seeds 5] [--out FILE]

`error` prints σ and the mean error for each number of bands; `columns` the mean error at equal σ of
b free numbers, of one and two buffers, and of powers of the best λ. `digits` trains `dpsgd` and
`bandmf` at ε = 1 and 4, by the settings that digits have for all: one trial each, nothing tuned.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
from dpigu.accountants import calibrate_noise_multiplier
from dpigu.dpcore import PoissonSampler
from dpigu.mechanisms import PRESETS
from dpigu.mechanisms.presets.correlated import bandmf
from dpigu.mechanisms.release.buffered import buffered_column
from dpigu.mechanisms.release.factorisations import mean_error, optimal_column
from dpigu.trainers import build_model, train
from dpigu.trainers.recipes.recipe import recipe_for

SETTINGS = (("digits", 256 / 1500, 200), ("mnist", 0.04, 2000))
BANDS = (1, 2, 4, 5, 8, 16, 25)
EPSILONS = (1.0, 4.0)


def sigma_of(bands: int, steps: int, rate: float, epsilon: float) -> float:
    """The noise multiplier of so many bands at ε and δ = 10⁻⁵."""
    plan, sampler = bandmf(steps, bands=bands), PoissonSampler(rate, 1500)
    return calibrate_noise_multiplier(
        lambda z: plan.scaled_noise(z).event(sampler), epsilon, 1e-5, "rdp"
    )


def errors(momentum: float) -> list[str]:
    """A row for each setting and ε: σ times the mean error, over that of one band, and σ."""
    lines = []
    for data, rate, steps in SETTINGS:
        for epsilon in EPSILONS:
            found = {}
            for bands in (b for b in BANDS if b * rate <= 1):
                sigma = sigma_of(bands, steps, rate, epsilon)
                column = optimal_column(steps, bands, momentum)
                found[bands] = (sigma, sigma * mean_error(column, steps, momentum))
            told = [
                f"{found[b][1] / found[1][1]:.3f} ({found[b][0]:.2f})" if b in found else "–"
                for b in BANDS
            ]
            lines.append(f"| {data} | {epsilon:g} | {momentum:g} | {' | '.join(told)} |")
    return lines


def columns(steps: int = 200) -> list[str]:
    """A row for each momentum and number of bands: mean errors over that of independent noise."""
    lines = []
    for momentum in (0.0, 0.9):
        independent = mean_error((1.0,), steps, momentum)
        for bands in (4, 8, 16):
            powers = [tuple(x**k for k in range(bands)) for x in np.linspace(0.01, 0.99, 99)]
            found = [
                mean_error(optimal_column(steps, bands, momentum), steps, momentum),
                *(
                    mean_error(buffered_column(steps, bands, d, momentum), steps, momentum)
                    for d in (1, 2)
                ),
                min(mean_error(column, steps, momentum) for column in powers),
            ]
            told = " | ".join(f"{error / independent:.4f}" for error in found)
            lines.append(f"| {momentum:g} | {bands} | {told} |")
    return lines


def trained(preset: str, epsilon: float, seeds: int) -> dict[str, object]:
    """Held-out accuracy on digits by the data's own settings, over seeds of the weights."""
    found, calibrated = [], dict[str, float]()
    for seed in range(seeds):
        recipe = recipe_for(
            preset, "digits", seed=seed, epsilon=epsilon, evaluations=1, **calibrated
        )
        data = recipe.load_data(progress=False)
        model = build_model(recipe.model_for(data.spec), data.spec, seed)
        run = train(recipe.plan, data, model, recipe.settings, progress=False)
        calibrated = {"noise_multiplier": run.summary["noise_multiplier"]}
        found.append(float(run.summary["test_accuracy"]))
    return {
        "preset": preset,
        "epsilon": epsilon,
        **calibrated,
        "accuracies": found,
        "mean": statistics.mean(found),
        "std": statistics.stdev(found),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("error", "columns", "digits"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--preset", action="append", choices=tuple(PRESETS))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.what == "error":
        print(f"| data | ε | momentum | {' | '.join(f'b = {b}' for b in BANDS)} |")
        print("|---|---|---|" + "---|" * len(BANDS))
        print(*errors(0.0), *errors(0.9), sep="\n")
        return
    if given.what == "columns":
        print("| momentum | b | b free numbers | one buffer | two buffers | powers of λ |")
        print("|---|---|---|---|---|---|", *columns(), sep="\n")
        return
    rows = []
    for epsilon in EPSILONS:
        for preset in given.preset or ("dpsgd", "bandmf"):
            rows.append(trained(preset, epsilon, given.seeds))
            print(json.dumps(rows[-1]), flush=True)
    if given.out is not None:
        given.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
