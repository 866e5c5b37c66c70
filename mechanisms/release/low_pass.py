"""A low-pass filter over the steps: noise is new at every step, and gradients change slowly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from dpigu.dpcore import PhaseContext, Reads, Release, Released, Space, State, register
from dpigu.mechanisms.validate import require
from torch import Tensor


@register("post", "low-pass")
@dataclass(frozen=True, kw_only=True)
class LowPass:
    """The released gradients through a linear recursive filter, unbiased from the first step on.

    m_t = Σ_{k≥0} b_k g_{t−k} − Σ_{k≥1} a_k m_{t−k},  ĝ_t = m_t/c_t, c the same filter of ones

    A gradient that stays the same passes unchanged, and noise is averaged over steps. One
    feedback number and one feedforward number are momentum with its bias taken out; b_1 = b_0
    passes nothing of what changes its sign at every step.

    It must be the last post map, since it remembers what left the pipeline. The declared variance
    is that of the step's own noise, (b_0/c_t)²·v: what is left of earlier noise is known from
    what was released before.

    Args:
        feedback: a_1, a_2, …; none is a finite average.
        feedforward: b_0, b_1, …, with b_0 not 0, and a sum that is not 0.

    State: `past_m`, `past_g`: m and g of the steps before, latest first; `past_c`, `past_one`: the
    same of ones. float64.

    Errors: `GrammarError` for numbers that are not finite or filter a constant to nothing.

    Source: Zhang, Bu, Hong and Razaviyayn 2024, DOPPLER (arXiv 2408.13460), Algorithm 1,
    whose renderings differ in c; this c is that of the authors' code, and of DP-PMLF
    (arXiv 2511.08841).
    Privacy: post-processing of released vectors; checked by
    tests/mechanisms/release/test_low_pass.py.
    """

    feedback: tuple[float, ...] = (-0.9,)
    feedforward: tuple[float, ...] = (0.05, 0.05)

    def __post_init__(self) -> None:
        finite = all(map(math.isfinite, (*self.feedback, *self.feedforward)))
        led = len(self.feedforward) > 0 and self.feedforward[0] != 0 and sum(self.feedforward) != 0
        require(finite, self, "feedback", "finite numbers")
        require(led, self, "feedforward", "numbers, the first and the sum not 0")

    def output_space(self, space: Space) -> Space:
        return space

    def init(self, context: PhaseContext, reads: Reads) -> State:
        back, forward = len(self.feedback), len(self.feedforward) - 1
        zeros_D = context.zeros()
        return {
            "past_m": zeros_D.new_zeros(back, len(zeros_D)),
            "past_g": zeros_D.new_zeros(forward, len(zeros_D)),
            "past_c": zeros_D.new_zeros(back, 1),
            "past_one": zeros_D.new_zeros(forward, 1),
        }

    def update(self, state: State, release: Release, reads: Reads) -> State:
        one = torch.ones_like(state["past_c"].sum(0))
        scale = self._filtered(one, state["past_one"], state["past_c"])
        m_D = scale * release.gradient.value
        zeros_D = torch.zeros_like(m_D)
        known_D = self._filtered(zeros_D, state["past_g"], state["past_m"])
        g_D = (m_D - known_D) / self.feedforward[0]
        return {
            "past_m": _shifted(m_D, state["past_m"]),
            "past_g": _shifted(g_D, state["past_g"]),
            "past_c": _shifted(scale, state["past_c"]),
            "past_one": _shifted(one, state["past_one"]),
        }

    def apply(self, state: State, released: Released, reads: Reads) -> Released:
        one = torch.ones_like(state["past_c"].sum(0))
        scale = self._filtered(one, state["past_one"], state["past_c"])
        m_D = self._filtered(released.value, state["past_g"], state["past_m"])
        share = self.feedforward[0] / scale
        return released.derive(m_D / scale, share**2 * released.variance)

    def _filtered(self, g_D: Tensor, past_g: Tensor, past_m: Tensor) -> Tensor:
        """m_t of g_t and of the steps before."""
        m_D = self.feedforward[0] * g_D
        for b, before_D in zip(self.feedforward[1:], past_g, strict=True):
            m_D = m_D + b * before_D
        for a, before_D in zip(self.feedback, past_m, strict=True):
            m_D = m_D - a * before_D
        return m_D


def _shifted(now_D: Tensor, past: Tensor) -> Tensor:
    """The latest first, the oldest gone."""
    return torch.cat([now_D[None], past])[: len(past)]
