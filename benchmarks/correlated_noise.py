"""Correlated noise against independent noise: in the weights by formula, and trained on digits.

    python -m benchmarks.correlated_noise error
    python -m benchmarks.correlated_noise turns
    python -m benchmarks.correlated_noise digits [--seeds 5] [--out FILE]

`error` prints σ and the mean error for each number of bands; `turns` the mean error where records
take part in every turn, of b bands, of one and two buffers without an end, and of the best λ, over
that of DP-SGD at the same ε. `digits` trains `dpsgd` and `bandmf` at ε = 1 and 4, by the settings
that digits have for all: one trial each, nothing tuned.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from pathlib import Path
from typing import Any

from dpigu.accountants import calibrate_noise_multiplier
from dpigu.dpcore import Plan, PoissonSampler
from dpigu.mechanisms import PRESETS
from dpigu.mechanisms.presets.correlated import bandmf, blt
from dpigu.mechanisms.presets.dpsgd import dpsgd
from dpigu.mechanisms.release.buffered import best_buffers, endless_error
from dpigu.mechanisms.release.factorisations import mean_error, optimal_column
from dpigu.trainers import build_model, train
from dpigu.trainers.recipes.from_preset import recipe_for

SETTINGS = (("digits", 256 / 1500, 200), ("mnist", 0.04, 2000))
BANDS = (1, 2, 4, 5, 8, 16, 25)
EPSILONS = (1.0, 4.0)
TURNS = ((16, 1), (16, 4), (16, 16), (64, 1), (64, 4))


def sigma_of(bands: int, steps: int, rate: float, epsilon: float) -> float:
    """The noise multiplier of so many bands at ε and δ = 10⁻⁵."""
    return sigma_for(bandmf(steps, bands=bands), PoissonSampler(rate, 1500), epsilon)


def sigma_for(plan: Plan, sampler: PoissonSampler, epsilon: float) -> float:
    """The noise multiplier of a plan at ε and δ = 10⁻⁵."""
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


def turns(epsilon: float) -> list[str]:
    """A row for each momentum, number of turns and passes: errors over that of DP-SGD, and σ."""
    lines = []
    for momentum, (blocks, passes) in itertools.product((0.0, 0.9), TURNS):
        steps, sampler = blocks * passes, PoissonSampler(1 / blocks, 100 * blocks)
        buffers = [best_buffers(steps, blocks, count, momentum) for count in (1, 2)]
        powers = [((k / 100, k / 100),) for k in range(1, 100)]
        buffers.append(min(powers, key=lambda one: endless_error(one, steps, blocks, momentum)))
        found = [
            (dpsgd(steps), mean_error((1.0,), steps, momentum)),
            (
                bandmf(steps, bands=blocks, momentum=momentum),
                mean_error(optimal_column(steps, blocks, momentum), steps, momentum),
            ),
            *(
                (blt(steps, turns=blocks), endless_error(given, steps, blocks, momentum))
                for given in buffers
            ),
        ]
        errors = [sigma_for(plan, sampler, epsilon) * error for plan, error in found]
        told = " | ".join(f"{error / errors[0]:.3f}" for error in errors[1:])
        lines.append(f"| {epsilon:g} | {momentum:g} | {blocks} | {passes} | {told} |")
    return lines


def trained(preset: str, epsilon: float, seeds: int) -> dict[str, object]:
    """Held-out accuracy on digits by the data's own settings, over seeds of the weights."""
    found, calibrated = [], dict[str, Any]()
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
    parser.add_argument("what", choices=("error", "turns", "digits"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--preset", action="append", choices=tuple(PRESETS))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.what == "error":
        print(f"| data | ε | momentum | {' | '.join(f'b = {b}' for b in BANDS)} |")
        print("|---|---|---|" + "---|" * len(BANDS))
        print(*errors(0.0), *errors(0.9), sep="\n")
        return
    if given.what == "turns":
        print("| ε | momentum | b | passes | b bands | one buffer | two buffers | λ |")
        print("|---|---|---|---|---|---|---|---|", *turns(1.0), *turns(8.0), sep="\n")
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
