"""What each valid test says of an honest run, and how often it contradicts one.

`python -m benchmarks.audits.audit_power` simulates observations of 700 crafted gradients, 200 steps
at noise that has ε = 1, 2, 4 and 8 at δ = 1e-5, on all records and at rate 0.1, and prints the
median of each lower bound over 5 audits. `--level` runs 2,000 honest audits of 50 canaries over
10 steps, and counts how often each test rejects, and each limit misses, at a level of 5%.
"""

from __future__ import annotations

import sys
from statistics import median

import numpy as np
from dp_accounting import GaussianDpEvent, SelfComposedDpEvent
from dpigu.accountants import calibrate_noise_multiplier
from dpigu.audits.statistics import combined_test, guess_grid, mu_to_epsilon
from dpigu.dpcore import PoissonSampler

from benchmarks.audits.canary_weights import PLANTED, observed

EPSILONS, RATES = (1.0, 2.0, 4.0, 8.0), (1.0, 0.1)
CANARIES, STEPS, DELTA, CONFIDENCE, AUDITS = 700, 200, 1e-5, 0.95, 5
HONEST = PLANTED["honest"]


def sigma_for(epsilon: float, rate: float, steps: int = STEPS) -> float:
    """The noise multiplier with which so many steps have this ε."""
    sampler = PoissonSampler(rate, 1)
    return calibrate_noise_multiplier(
        lambda z: SelfComposedDpEvent(sampler.event(GaussianDpEvent(z)), steps),
        epsilon,
        DELTA,
        "pld",
    )


def bounds(draw: np.random.Generator, epsilon: float, sigma: float, rate: float) -> list[float]:
    """One honest audit: ε by guesses, by guesses under Gaussian curves, as numbers, and read off
    the scores' distance (an estimate)."""
    seen, coins = observed(draw, HONEST, CANARIES, STEPS, sigma, rate)
    scores = seen.scores()
    test = combined_test(
        scores, coins, guess_grid(CANARIES), epsilon=epsilon, delta=DELTA, confidence=CONFIDENCE
    )
    found = seen.as_claimed(DELTA, CONFIDENCE)
    assert found is not None
    inside, outside = scores[coins == 1], scores[coins == 0]
    spread = np.sqrt((inside.var(ddof=1) + outside.var(ddof=1)) / 2)
    read = mu_to_epsilon(max(0.0, float((inside.mean() - outside.mean()) / spread)), DELTA)
    return [test.one_run.lower_bound, test.if_gaussian()[1], found.epsilon or 0.0, read]


def main() -> None:
    names = ("guesses", "guesses, Gaussian", "as numbers", "read off (no bound)")
    print(f"{'ε':>4}{'rate':>6}{'σ':>8}" + "".join(f"{name:>21}" for name in names))
    for rate in RATES:
        for epsilon in EPSILONS:
            sigma, draw = sigma_for(epsilon, rate), np.random.default_rng(1)
            audits = [bounds(draw, epsilon, sigma, rate) for _ in range(AUDITS)]
            row = "".join(f"{median(column):>21.2f}" for column in zip(*audits, strict=True))
            print(f"{epsilon:>4g}{rate:>6g}{sigma:>8.3f}{row}", flush=True)


def level(audits: int = 2000) -> dict[str, float]:
    """How often an honest run is rejected at 5%, by test; and how often a limit misses."""
    draw, counts = np.random.default_rng(2), dict.fromkeys(("spread", "reach", "e", "limits"), 0)
    for _ in range(audits):
        seen, _ = observed(draw, HONEST, 50, 10, 2.0, 0.5)
        limits = seen.limits(CONFIDENCE)
        assert limits is not None
        counts["spread"] += seen.spread_p_value() < 0.05
        counts["reach"] += seen.reach_p_value() < 0.05
        counts["e"] += seen.log_e() >= np.log(20)
        counts["limits"] += limits[0] < 1 or limits[1] > 1
    return {name: count / audits for name, count in counts.items()}


if __name__ == "__main__":
    if "--level" in sys.argv:
        print(level())
    else:
        main()
