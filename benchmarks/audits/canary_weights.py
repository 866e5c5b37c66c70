"""What gradient canaries show of planted noise: weighed by the claimed σ, and by what was seen.

`python -m benchmarks.audits.canary_weights` simulates observations of 700 canaries, 200 steps on
all records at σ = 15.2, a claim of ε = 4 at δ = 1e-5, and prints the lower bounds and the p-value
of the spread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from dpigu.audits.canaries.observations import Observations, increment
from dpigu.audits.statistics import WITH_SPREAD, Reals, auc, guess_grid, one_run_test

CANARIES, STEPS, SIGMA, RATE = 700, 200, 15.2, 1.0
EPSILON, DELTA, CONFIDENCE = 4.0, 1e-5, 0.95
DATA = 0.02
"""What the data add to an observation, in units of C."""

Noise = Callable[[int, int], Reals]
"""From steps and canaries to the share of σ that was drawn, T × m."""


def _steps(every: int, share: float, start: int = 0) -> Noise:
    def shares(steps: int, canaries: int) -> Reals:
        found = np.ones((steps, canaries))
        found[start::every] = share
        return found

    return shares


def _pool(steps: int, canaries: int) -> Reals:
    found = np.ones((steps, canaries))
    found[:, : canaries // 10] = 0.0
    return found


def _late(steps: int, canaries: int) -> Reals:
    found = np.ones((steps, canaries))
    found[-steps // 10 :] = 0.0
    return found


PLANTED: Mapping[str, Noise] = {
    "honest": lambda steps, canaries: np.ones((steps, canaries)),
    "no noise on every second step": _steps(2, 0.0),
    "a tenth of it on every second step": _steps(2, 0.1),
    "no noise in the last tenth": _late,
    "no noise on one step in 200": _steps(200, 0.0, 100),
    "no noise on a tenth of the coordinates": _pool,
    "85% of the noise": _steps(1, 0.85),
}


def observed(
    draw: np.random.Generator,
    noise: Noise,
    canaries: int = CANARIES,
    steps: int = STEPS,
    sigma: float = SIGMA,
    rate: float = RATE,
) -> tuple[Observations, Reals]:
    """Simulated observations and the coins."""
    coins = draw.integers(0, 2, canaries)
    in_Tm = (coins == 1) & (draw.random((steps, canaries)) < rate)
    spread = noise(steps, canaries) * sigma
    o_Tm = in_Tm + draw.normal(0, DATA, in_Tm.shape) + draw.normal(0, 1, in_Tm.shape) * spread
    there = np.ones(in_Tm.shape, dtype=bool)
    sigma_T, rate_T = np.full(steps, sigma), np.full(steps, rate)
    return Observations(o_Tm, there, in_Tm, sigma_T, rate_T, steps), coins.astype(float)


def bound_of(scores: Reals, coins: Reals) -> float:
    """The lower bound on ε, at the share of the confidence that the test has."""
    level = 1 - (1 - CONFIDENCE) * WITH_SPREAD["one-run"]
    return one_run_test(scores, coins, guess_grid(len(coins)), EPSILON, DELTA, level).lower_bound


def main() -> None:
    print(f"{'planted':<40}{'by σ':>8}{'by spread':>11}{'AUC':>8}{'p of spread':>13}")
    for name, noise in PLANTED.items():
        seen, coins = observed(np.random.default_rng(1), noise)
        before = increment(seen.o_Tm, RATE, SIGMA).sum(0)
        after = seen.scores()
        area = auc(after[coins == 1], after[coins == 0]).value
        bounds = f"{bound_of(before, coins):>8.2f}{bound_of(after, coins):>11.2f}"
        print(f"{name:<40}{bounds}{area:>8.3f}{seen.spread_p_value():>13.2g}")


if __name__ == "__main__":
    main()
