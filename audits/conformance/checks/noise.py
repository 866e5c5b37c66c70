"""Checks of noisers: the noise that is drawn is the noise that is accounted for.

Draws come from a seed that is fixed, so a verdict never varies; rates of false alarms are those
that fresh seeds would have.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from dp_accounting import GaussianDpEvent
from dpigu.audits.conformance.check import Broken, Subject, check, for_all, of_kind
from dpigu.mechanisms.public_random import public_generator
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

SIZES = (1, 7, 64, 1000)
DRAWS = 60_000


@check(
    "event-is-the-noise",
    guards="The event that accountants read has the multiplier by which the noise is scaled.",
    remedy="Return GaussianDpEvent(noise_multiplier) from `event`, and keep noise_multiplier an "
    "option: the trainer sets it.",
    applies=of_kind("noiser"),
)
def event_is_the_noise(subject: Subject) -> None:
    def equal(multiplier: float) -> None:
        stage = dataclasses.replace(subject.stage, noise_multiplier=multiplier)
        if stage.noise_multiplier != multiplier:
            raise Broken("it changes the multiplier", got=stage.noise_multiplier)
        event = stage.event(multiplier)
        if type(event) is not GaussianDpEvent or event.noise_multiplier != multiplier:
            raise Broken("the event is another", got=event, expected=GaussianDpEvent(multiplier))
        halved = stage.event(multiplier / 2)
        if halved != GaussianDpEvent(multiplier / 2):
            raise Broken(
                "the event is not that of the multiplier that is asked for",
                got=halved,
                expected=GaussianDpEvent(multiplier / 2),
            )

    for_all(equal, multiplier=st.sampled_from((1.0, 1e-6, 1e6)) | st.floats(0.01, 100))


@check(
    "noise-has-its-distribution",
    guards="Unit noise is standard normal at every length, as the event and the released variance "
    "say: less of it is a broken claim, and so are lighter tails.",
    remedy="Return noise of variance 1 from `sample`, one value for each draw.",
    applies=of_kind("noiser"),
)
def noise_has_its_distribution(subject: Subject) -> None:
    """False alarms: two tests at 1e-9 for each length (Kolmogorov-Smirnov; χ² of the energy)."""
    for size in SIZES:
        noise = _samples(subject, size).reshape(-1)
        energy, draws = float((noise**2).sum()), noise.numel()
        p = min(stats.chi2.cdf(energy, draws), stats.chi2.sf(energy, draws)) * 2
        found = f"standard deviation {math.sqrt(energy / draws):.4f}"
        if p < 1e-9:
            raise Broken("the noise has not variance 1", length=size, got=found, expected=1.0)
        if (p := stats.kstest(noise.numpy(), "norm").pvalue) < 1e-9:
            raise Broken("the noise is not normal", length=size, got=f"{found}, p = {p:.1e}")


@check(
    "noise-is-independent",
    guards="Every direction of the released vector carries its own noise: a sum or a difference "
    "of coordinates is hidden as well as each of them.",
    remedy="Let each value of `sample` come from a draw of its own, and reuse none.",
    applies=of_kind("noiser"),
)
def noise_is_independent(subject: Subject) -> None:
    """False alarms: below 1e-6 for each length (no mean product passes 7 standard errors)."""
    for size in SIZES[1:]:
        noise = _samples(subject, size)
        product = (noise.T @ noise / len(noise)).fill_diagonal_(0).abs()
        limit = 7 / math.sqrt(len(noise)) + 25 / len(noise)
        if float(product.max()) > limit:
            i, j = divmod(int(product.argmax()), size)
            raise Broken(
                f"coordinates {i} and {j} share their noise",
                length=size,
                got=f"mean product {float(product[i, j]):.3f}",
                expected=f"at most {limit:.3f}",
            )
        steps = (noise[1:] * noise[:-1]).sum() / noise[1:].numel()
        if abs(float(steps)) > 7 / math.sqrt(noise[1:].numel()):
            raise Broken("one step's noise comes again in the next", length=size)


def _samples(subject: Subject, size: int) -> Tensor:
    """Noise of many steps, one a row, from fixed normal draws."""
    count = DRAWS // size if size < 1000 else 250
    generator = public_generator("conformance noise", size)
    normal = torch.randn(min(count, 4000), size, generator=generator, dtype=torch.float64)
    rows = []
    for normal_K in normal:
        unit_K = subject.stage.sample(normal_K)
        if tuple(unit_K.shape) != (size,) or not bool(unit_K.isfinite().all()):
            raise Broken("the noise is not one finite value for each draw", draws=size, got=unit_K)
        rows.append(unit_K.to(torch.float64))
    return torch.stack(rows)
