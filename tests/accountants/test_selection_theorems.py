"""The best of a random number of trials costs what the theorems say, and no less in truth."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent
from dp_accounting.rdp import RdpAccountant
from dpigu.accountants import Trials, get_accountant
from dpigu.accountants.selection import GEOMETRIC, POISSON
from scipy import stats

from tests.accountants.test_selection import DELTA, FINITE, NAMED, tuned

pytestmark = pytest.mark.numerical

# The theorem, computed here from Gaussians alone --------------------------------------------


def theorem_2(
    trial: float,
    final: float | None,
    trials: Trials,
    factor: Callable[[float], float] = lambda eta: 1 + eta,
    kept: tuple[int, int, int, int] = (1, 1, 1, 1),
) -> float:
    """ε of Theorem 2 and a final run for Gaussians of these multipliers.

    `factor` and `kept` plant mistakes: another 1 + η, and which of the terms are there: ε̂,
    ln(1/γ), ln E[K], the final run.
    """
    orders = RdpAccountant().orders
    assert trials.gamma is not None
    rdp = orders / (2 * trial**2)
    spread = kept[0] * (1 - 1 / orders) * rdp + kept[1] * math.log(1 / trials.gamma) / orders
    chosen = rdp + factor(trials.shape) * min(spread)
    chosen = chosen + kept[2] * math.log(trials.mean) / (orders - 1)
    chosen = np.array([min(chosen[i:]) for i in range(len(orders))])  # RDP grows with the order
    if final is not None:
        chosen = chosen + kept[3] * orders / (2 * final**2)
    return float(min(chosen + np.log1p(-1 / orders) - np.log(DELTA * orders) / (orders - 1)))


CASES = [
    (z, final, mean, shape)
    for z, final in ((1.5, None), (4.0, 4.0), (12.0, 3.0))
    for mean in (2.0, 4.0, 60.0)
    for shape in FINITE
]


@pytest.mark.parametrize(("z", "final", "mean", "shape"), CASES)
def test_the_choice_costs_what_theorem_2_says(z, final, mean, shape) -> None:
    trials = Trials(mean, shape)
    last = None if final is None else GaussianDpEvent(final)
    claimed = tuned(GaussianDpEvent(z), last, trials)
    assert claimed == pytest.approx(theorem_2(z, final, trials), abs=1e-6)


@pytest.mark.parametrize(
    ("mistake", "shape"),
    [
        ({"factor": lambda eta: 1.0}, 1.0),
        ({"factor": lambda eta: eta}, 0.0),
        ({"kept": (0, 1, 1, 1)}, 1.0),
        ({"kept": (1, 0, 1, 1)}, 1.0),
        ({"kept": (1, 1, 0, 1)}, 1.0),
        ({"kept": (1, 1, 1, 0)}, 1.0),
    ],
)
def test_a_formula_with_one_mistake_is_seen(mistake, shape) -> None:
    """What the test above compares with differs by far more than its tolerance."""
    trials = Trials(4.0, shape)
    claimed = tuned(GaussianDpEvent(4.0), GaussianDpEvent(4.0), trials)
    assert claimed > theorem_2(4.0, 4.0, trials, **mistake) + 0.01


@pytest.mark.parametrize("mean", [2.0, 4.0, 30.0])
@pytest.mark.parametrize("z", [1.5, 4.0])
def test_poisson_costs_what_theorem_6_says(z: float, mean: float) -> None:
    """With δ̂ as RDP gives it; with a Gaussian's exact δ̂, which is smaller, it would cost less."""
    orders = RdpAccountant().orders
    rdp = orders / (2 * z**2)

    def theorem_6(delta_hat: Callable[[float], float]) -> float:
        delta = np.array([delta_hat(math.log1p(1 / (a - 1))) for a in orders])
        chosen = rdp + mean * delta + math.log(mean) / (orders - 1)
        return float(min(chosen + np.log1p(-1 / orders) - np.log(DELTA * orders) / (orders - 1)))

    def by_rdp(epsilon: float) -> float:
        log = (orders - 1) * (rdp - epsilon + np.log1p(-1 / orders)) - np.log(orders)
        return float(min(np.exp(np.minimum(log, 0)).min(), np.sqrt(-np.expm1(-rdp)).min()))

    def exact(epsilon: float) -> float:
        u, v = epsilon * z - 0.5 / z, epsilon * z + 0.5 / z
        return float(stats.norm.sf(u) - math.exp(epsilon) * stats.norm.sf(v))

    claimed = tuned(GaussianDpEvent(z), None, Trials(mean, POISSON))
    assert claimed == pytest.approx(theorem_6(by_rdp), abs=1e-5)
    assert theorem_6(exact) < claimed


# The truth: an exact best of K ---------------------------------------------------------------


def exact_delta(epsilon: float, z: float, trials: Trials, cut: float) -> float:
    """δ of the best of K draws of x + N(0, z²) for x = 0 against 1, the worse direction.

    The density of the best is Σ_k P(K = k) k F^(k−1) p, with F the probability of a worse draw;
    where K is 0, x cannot be seen. A large draw is good, but one below `cut` is better still:
    x = 0 then hides large draws behind many good ones that x = 1 seldom has, so a large draw says
    more than it did alone. That comes close to the worst score there can be.
    """
    y = np.linspace(-12 * z, 1 + 12 * z, 4001)
    order = np.argsort(np.where(y < cut, y + 100 * z, y))
    weights = [k * trials.probability(k) for k in range(1, 1000)]
    assert sum(weights) == pytest.approx(trials.mean, rel=1e-6)
    best = []
    for x in (0.0, 1.0):
        p = stats.norm.pdf(y, x, z)[order]
        p = p / p.sum()
        best.append(np.polynomial.polynomial.polyval(np.cumsum(p) - p / 2, weights) * p)
    return max(float(np.maximum(p - math.exp(epsilon) * q, 0).sum()) for p, q in (best, best[::-1]))


def worst_delta(epsilon: float, z: float, trials: Trials) -> float:
    """`exact_delta` at the worst of some cuts."""
    return max(exact_delta(epsilon, z, trials, cut * z) for cut in (-2, -1.5, -1, -0.5, 0, 0.5))


@pytest.mark.parametrize("shape", [*NAMED, 3.0])
@pytest.mark.parametrize("mean", [1.0, 4.0, 12.0])
@pytest.mark.parametrize("z", [0.8, 3.0])
def test_the_exact_choice_keeps_what_is_claimed(z: float, mean: float, shape: float) -> None:
    trials = Trials(mean, shape)
    claimed = tuned(GaussianDpEvent(z), None, trials)
    assert worst_delta(claimed, z, trials) <= DELTA


@pytest.mark.parametrize("shape", NAMED)
def test_the_exact_choice_does_not_keep_what_one_run_costs(shape: float) -> None:
    one_run = get_accountant("pld").epsilon(GaussianDpEvent(3.0), DELTA).value
    assert one_run is not None
    assert worst_delta(one_run, 3.0, Trials(1.0, GEOMETRIC)) == pytest.approx(DELTA, rel=0.01)
    assert worst_delta(one_run, 3.0, Trials(12.0, shape)) > 10 * DELTA


@pytest.mark.parametrize("shape", FINITE)
def test_the_exact_choice_does_not_keep_half_the_theorem(shape: float) -> None:
    """Without its ε̂ and ln(1/γ) the theorem would claim too little."""
    trials = Trials(12.0, shape)
    assert worst_delta(theorem_2(0.8, None, trials, kept=(0, 0, 1, 1)), 0.8, trials) > 2 * DELTA
