"""The loss of one sampled Gaussian release, held against exact arithmetic and dp-accounting."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism
from dp_accounting.pld.privacy_loss_mechanism import AdjacencyType
from dpigu.accountants.gaussian_loss import cut_offs, gaussian_loss, hockey_stick

pytestmark = pytest.mark.numerical

RELEASES = [(1.0, 1.0), (1.0, 0.1), (0.2, 0.7), (0.05, 5.0), (1e-3, 200.0), (1e-4, 0.6)]
EPSILONS = np.array([-8.0, -0.3, -1e-3, -1e-9, 0.0, 1e-9, 1e-6, 1e-3, 0.1, 0.999, 1.001, 4.0, 30.0])

SMALLEST = 2.0**-1000
"""Below, float64 gives 0."""


@pytest.mark.parametrize("direction", [AdjacencyType.REMOVE, AdjacencyType.ADD])
@pytest.mark.parametrize(("rate", "sigma"), RELEASES)
def test_every_delta_is_the_exact_one_at_its_cut_off(
    rate: float, sigma: float, direction: AdjacencyType
) -> None:
    """P(x) − e^ε·Q(x) with 60 digits. Rounding leaves some units of what the two sides move by;
    and for ε > 1, where logarithms are taken, of ln P more."""
    found = hockey_stick(direction, rate, sigma, EPSILONS)
    x_E = cut_offs(direction, rate, sigma, EPSILONS)
    with mpmath.workdps(60):
        for epsilon, x, delta in zip(EPSILONS, x_E, found, strict=True):
            plain = mpmath.ncdf(x, 0, sigma)
            shift = 1 if direction is AdjacencyType.REMOVE else -1
            mixed = (1 - mpmath.mpf(rate)) * plain + rate * mpmath.ncdf(
                mpmath.mpf(x) + shift, 0, sigma
            )
            above, below = (mixed, plain) if shift == 1 else (plain, mixed)
            exact = above - mpmath.exp(mpmath.mpf(epsilon)) * below
            moved = rate + abs(mpmath.expm1(epsilon))
            if epsilon > 1:
                moved = above * (1 - mpmath.log(above)) if above > SMALLEST else SMALLEST
            assert abs(delta - exact) <= 10 * 2.0**-53 * moved, epsilon


@pytest.mark.parametrize(("rate", "sigma"), RELEASES)
def test_the_distribution_is_that_of_dp_accounting(rate: float, sigma: float) -> None:
    interval = 1e-3 / sigma
    ours = gaussian_loss(rate, sigma, interval)
    theirs = from_gaussian_mechanism(
        sigma, value_discretization_interval=interval, sampling_prob=rate
    )
    for delta in (1e-3, 1e-7):
        assert ours.get_epsilon_for_delta(delta) == pytest.approx(
            theirs.get_epsilon_for_delta(delta), rel=1e-9, abs=1e-12
        )
    for epsilon in (0.0, 0.1, 3.0):
        assert ours.get_delta_for_epsilon(epsilon) == pytest.approx(
            theirs.get_delta_for_epsilon(epsilon), rel=1e-9, abs=1e-14
        )
