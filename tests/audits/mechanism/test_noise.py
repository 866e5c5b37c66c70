"""The noise by itself: what is claimed passes at its level, and what is missing, coarse, misshapen
or repeated is seen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from dpigu.audits.mechanism.draws import Draws, noise_tests
from dpigu.audits.mechanism.noise import NoiseAudit, audit_noise, places
from dpigu.audits.statistics import Reals, bonferroni
from dpigu.dpcore import Kernel, Plan, ReproducibleNoise
from dpigu.dpcore.noise.laws import grid_of
from dpigu.mechanisms import PRESETS, BandedToeplitz, ClippedCount, FloatGaussian, Gaussian

from benchmarks.audits.audit_calibration import allowed
from tests.support.zoo import kernels as zoo

GRID = grid_of(1.0)
RNG = np.random.default_rng(3)


def drawn(change: Callable[[Reals], Reals] = lambda z: z, steps: int = 6) -> Draws:
    """Rounded Gaussian draws of 300 coordinates, changed."""
    z_TK = change(RNG.standard_normal((steps, 300)))
    live_TK = np.ones(z_TK.shape, dtype=bool)
    live_TK[: steps // 2, 200:] = False
    ones_T = np.ones(steps)
    return Draws("made up", np.round(z_TK / GRID) * GRID, live_TK, ones_T, ones_T, 1.0, True, True)


def test_what_is_claimed_is_contradicted_as_seldom_as_is_said() -> None:
    """120 draws at a level of 5%: at most as many below it as 5% passes once in a thousand."""
    p_values = [bonferroni([test.p_value for test in noise_tests(drawn())]) for _ in range(120)]
    assert sum(p < 0.05 for p in p_values) <= allowed(120)


def repeats_the_fourth(z_TK: Reals) -> Reals:
    z_TK[9] = z_TK[4]
    return z_TK


def the_last_is_quiet(z_TK: Reals) -> Reals:
    z_TK[-1] *= 0.1
    return z_TK


def one_is_quiet(z_TK: Reals) -> Reals:
    z_TK[:, 17] *= 0.01
    return z_TK


def shared_by_two(z_TK: Reals) -> Reals:
    z_TK[:, 1::2] = -z_TK[:, ::2]
    return z_TK


def carried_over(z_TK: Reals) -> Reals:
    z_TK[1:] = 0.8 * z_TK[1:] + 0.6 * z_TK[:-1]
    return z_TK


def without_a_mean(z_TK: Reals) -> Reals:
    for part in (z_TK[:, :200], z_TK[:, 200:]):
        part -= part.mean(1, keepdims=True)
    return z_TK


def no_number(z_TK: Reals) -> Reals:
    z_TK[3, 3] = np.nan
    return z_TK


MADE_UP: dict[Callable[[Reals], Reals], str] = {
    repeats_the_fourth: "the steps that are most alike",
    the_last_is_quiet: "the step with the least noise",
    one_is_quiet: "the coordinate with the least noise",
    shared_by_two: "neighbouring coordinates",
    carried_over: "the steps that are most alike",
    without_a_mean: "the spread of the mean",
    no_number: "draws that are no numbers",
    lambda z_TK: np.round(z_TK, 4): "draws that repeat another",
    lambda z_TK: z_TK.clip(-2.5, 2.5): "draws beyond 3 deviations",
    lambda z_TK: 0.9 * z_TK: "the spread of all draws",
    lambda z_TK: np.sign(z_TK) * (2 * z_TK**2) ** 0.25: "the shape of the draws",
    lambda z_TK: np.round(z_TK / GRID / 4) * GRID * 4: "bit 0 of the draws beyond one deviation",
}


@pytest.mark.parametrize("change", MADE_UP, ids=MADE_UP.values())
def test_each_fault_is_seen_by_the_test_that_is_made_for_it(
    change: Callable[[Reals], Reals],
) -> None:
    seen = {test.name for test in noise_tests(drawn(change, 40)) if test.p_value < 1e-4}
    assert MADE_UP[change] in seen


def test_a_phase_is_walked_to_its_end() -> None:
    assert places(4, 6) == [0, 1, 2, 3]
    assert places(100, 6) == [0, 1, 2, 35, 67, 99]


def noise_of(plan: Plan, kernel: type[Kernel] = Kernel, seed: int = 1) -> NoiseAudit:
    torch.manual_seed(seed)
    return audit_noise(plan, steps=6, kernel=kernel, noise=ReproducibleNoise(seed))


@pytest.mark.parametrize(
    "plan",
    [
        *(PRESETS[n].plan(20) for n in ("adadpigu", "rgp", "quantile-clipping", "dpsur", "bandmf")),
        zoo.plan(queries=(ClippedCount(),)),
        zoo.plan(noiser=FloatGaussian(noise_multiplier=1.0)),
        zoo.plan(
            noiser=Gaussian(noise_multiplier=1.9),
            factorisation=BandedToeplitz(bands=1, column=(3.0,)),
        ),
    ],
    ids=[
        *("adadpigu", "rgp", "quantile-clipping", "dpsur", "bandmf", "a query", "gaussian-float"),
        "a column of another length",
    ],
)
def test_the_kernels_noise_is_what_it_claims(plan: Plan) -> None:
    audit = noise_of(plan)
    assert audit.p_value > 1e-3, audit.worst
    assert audit.draws > 5000


def test_more_noise_than_is_claimed_is_no_fault() -> None:
    assert noise_of(zoo.plan(), zoo.PerPublicMicrobatch).p_value > 1e-3


def test_an_empty_batch_that_is_refused_is_left_to_other_tests() -> None:
    assert noise_of(zoo.plan(), zoo.PerMicrobatch).draws == 0


SEEN = (
    zoo.TailWithoutNoise,
    zoo.HalfPrecisionNoise,
    zoo.BrainPrecisionNoise,
    zoo.SinglePrecisionNoise,
    zoo.FewBits,
    zoo.LaplaceNoise,
    zoo.ClampedNoise,
    zoo.TooLittle,
    zoo.ShortPhase,
    zoo.ReusedNoise,
)


@pytest.mark.parametrize("kernel", SEEN, ids=lambda kernel: kernel.__name__)
def test_noise_that_is_not_what_is_claimed_is_seen(kernel: type[Kernel]) -> None:
    audit = noise_of(zoo.plan(steps=20), kernel)
    assert audit.p_value < 1e-6, audit.worst
