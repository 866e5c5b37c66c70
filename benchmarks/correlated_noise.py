"""Correlated noise against independent noise: in the weights by formula, and trained on digits.

    python -m benchmarks.correlated_noise error
    python -m benchmarks.correlated_noise digits [--seeds 5] [--out FILE]

`error` prints σ and the mean error for each number of bands. `digits` trains `dpsgd` and `bandmf`
at ε = 1 and 4: for each the same three learning rates, on two seeds of the weights and the held-out
half of the test records; then the best on other seeds and the other half.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path

from dpigu.accountants import calibrate_noise_multiplier
from dpigu.dpcore import PoissonSampler
from dpigu.mechanisms import PRESETS
from dpigu.mechanisms.presets.correlated import bandmf
from dpigu.mechanisms.release.factorisations import mean_error, optimal_column
from dpigu.trainers import Data, Tensors, build_model, train
from dpigu.trainers.recipes.recipe import recipe_for

SETTINGS = (("digits", 256 / 1500, 200), ("mnist", 0.04, 2000))
BANDS = (1, 2, 4, 5, 8, 16, 25)
EPSILONS = (1.0, 4.0)
RATES = (0.25, 0.5, 1.0)


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


def accuracy(preset: str, epsilon: float, learning_rate: float, seed: int, half: int) -> float:
    """Accuracy on one half of the held-out digits."""
    recipe = recipe_for(
        preset, "digits", seed=seed, epsilon=epsilon, learning_rate=learning_rate, evaluations=1
    )
    data: Data = recipe.load_data(progress=False)
    test = Tensors(data.test_x[half::2], data.test_y[half::2])
    data = replace(data, test=test)
    model = build_model(recipe.model_for(data.spec), data.spec, seed)
    run = train(recipe.plan, data, model, recipe.settings, progress=False)
    return float(run.summary["test_accuracy"])


def compared(preset: str, epsilon: float, seeds: int) -> dict[str, object]:
    """The best of the learning rates, chosen on seeds and records of its own, over the seeds."""
    tried = {
        rate: statistics.mean(accuracy(preset, epsilon, rate, 100 + s, 0) for s in range(2))
        for rate in RATES
    }
    best = max(tried, key=lambda rate: tried[rate])
    found = [accuracy(preset, epsilon, best, seed, 1) for seed in range(seeds)]
    return {
        "preset": preset,
        "epsilon": epsilon,
        "tried": tried,
        "learning_rate": best,
        "accuracies": found,
        "mean": statistics.mean(found),
        "std": statistics.stdev(found),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("error", "digits"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--preset", action="append", choices=tuple(PRESETS))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.what == "error":
        print(f"| data | ε | momentum | {' | '.join(f'b = {b}' for b in BANDS)} |")
        print("|---|---|---|" + "---|" * len(BANDS))
        print(*errors(0.0), *errors(0.9), sep="\n")
        return
    rows = []
    for epsilon in EPSILONS:
        for preset in given.preset or ("dpsgd", "bandmf"):
            rows.append(compared(preset, epsilon, given.seeds))
            print(json.dumps(rows[-1]), flush=True)
    if given.out is not None:
        given.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
