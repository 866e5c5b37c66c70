"""The noise by itself: what is claimed passes, and what is missing, coarse or misshapen is seen."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from dpigu.audits.mechanism.noise import WIDE, NoiseAudit, audit_noise
from dpigu.audits.mechanism.short_runs import short_runs
from dpigu.audits.mechanism.traces import SPACE
from dpigu.dpcore import Kernel, Plan, ReproducibleNoise
from dpigu.mechanisms import PRESETS, FloatGaussian

from tests.support import zoo

ROUNDED = "draws off the grid"


def noise_of(plan: Plan, kernel: type[Kernel] = Kernel, seed: int = 1) -> NoiseAudit:
    torch.manual_seed(seed)
    tried = short_runs(plan, SPACE, kernel, ReproducibleNoise(seed))
    return audit_noise(dataclasses.replace(tried[0], space=WIDE), plan.phases)


@pytest.mark.parametrize("name", ["dpsgd", "adadpigu", "rgp", "quantile-clipping", "fedsel"])
def test_a_presets_noise_is_what_it_claims(name: str) -> None:
    audit = noise_of(PRESETS[name].plan(8))
    assert audit.p_value > 1e-3, audit.worst


def test_noise_of_plain_floats_is_gaussian_too() -> None:
    audit = noise_of(zoo.plan(noiser=FloatGaussian(noise_multiplier=1.0)))
    assert audit.p_value > 1e-3 and ROUNDED not in {test.name for test in audit.tests}


def test_more_noise_than_is_claimed_is_no_fault() -> None:
    assert noise_of(zoo.plan(), zoo.PerPublicMicrobatch).p_value > 1e-3


SEEN = {
    zoo.TailWithoutNoise: {"the coordinate with the least noise"},
    zoo.HalfPrecisionNoise: {"draws that repeat another"},
    zoo.BrainPrecisionNoise: {"draws that repeat another"},
    zoo.SinglePrecisionNoise: {"draws off the grid", "draws that repeat another"},
    zoo.FewBits: {"draws that repeat another"},
    zoo.LaplaceNoise: {"the shape of the draws", "draws beyond 3 deviations"},
    zoo.ClampedNoise: {"draws beyond 4 deviations", "draws beyond 3 deviations"},
    zoo.TooLittle: {"the spread of all draws"},
    zoo.DividedTwice: {"the spread of all draws"},
    zoo.ShortPhase: {"the spread of all draws"},
}


@pytest.mark.parametrize("kernel", SEEN, ids=lambda kernel: kernel.__name__)
def test_noise_that_is_not_what_is_claimed_is_seen(kernel: type[Kernel]) -> None:
    audit = noise_of(zoo.plan(steps=20), kernel)
    seen = {test.name for test in audit.tests if len(audit.tests) * test.p_value < 1e-4}
    assert seen & SEEN[kernel], audit.worst
