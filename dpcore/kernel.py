"""The trusted base: guard each record, sum, add noise, divide, release.

Everything before the mint of `Released` handles one record at a time; everything after it sees
released values only. No stage sees the noise source or the divisor."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from dpigu.dpcore.devices import pieces, unwritten
from dpigu.dpcore.grammar.bound_pipeline import BoundPipeline, States, StepContext
from dpigu.dpcore.grammar.pipeline import Placed
from dpigu.dpcore.grammar.spaces import _MINT, Bounded, Released
from dpigu.dpcore.grammar.stages import Clipper, size_of
from dpigu.dpcore.grammar.values import Release, State
from dpigu.dpcore.noise import LAWS, NoiseSource, SystemNoise
from dpigu.dpcore.noise.correlated import Correlation
from dpigu.dpcore.precision import full_precision, refuse_emulated_products
from dpigu.dpcore.ranks import ALONE, Ranks
from dpigu.dpcore.rows import UNIT_ROUNDOFF, Rows, of_shape
from dpigu.dpcore.sampling import check_batch, max_batch
from torch import Tensor

ROUNDING = 2.0**-50
SMALLEST = 2.0**-900
"""Factors below are 0: near the end of float64's range a product's rounding is no small share."""


def capped(norm_B: Tensor, bound: Tensor) -> Tensor:
    """The factor in [0, 1] that brings each norm to at most the bound, in exact arithmetic.

    1 − 2⁻⁵⁰ pays for the rounding of this function and of the products it is used in.
    """
    factor_B = torch.where(norm_B <= bound, 1.0, bound / norm_B)
    return torch.where(factor_B < SMALLEST, 0.0, factor_B * (1 - ROUNDING))


def joint_norm(v_BG: Tensor) -> Tensor:
    """Upper bounds on the ℓ₂ norms of float64 vectors: G + 4 units of rounding are added."""
    norm_B: Tensor = torch.linalg.vector_norm(v_BG, dim=1)
    return norm_B * (1 + (v_BG.shape[1] + 4) * UNIT_ROUNDOFF)


def guarded_factors(
    clipper: Clipper, state: State, norms_BG: Tensor, bound: Tensor
) -> tuple[Tensor, Tensor]:
    """The clipper's factors c_BG, capped so that √Σ_g (c_g n_g)² ≤ bound; and who is valid.

    A record whose norm is not finite gets factor 0 and is not valid. So does one whose
    factors are not finite, or whose clipped norm is not.
    """
    valid_B = norms_BG.isfinite().all(1)
    norms_BG = torch.where(valid_B[:, None], norms_BG, 1.0)
    c_BG = torch.func.vmap(partial(clipper.factors, state))(norms_BG).to(torch.float64)
    c_BG = of_shape(c_BG, norms_BG.shape, "factors of the clipper")
    joint_B = joint_norm(c_BG * norms_BG)
    c_BG = c_BG * capped(joint_B, bound)[:, None]
    good_B = valid_B & joint_B.isfinite() & c_BG.isfinite().all(1)
    return torch.where(good_B[:, None] & (c_BG.abs() >= SMALLEST), c_BG, 0.0), good_B


def guarded_vectors(
    placed: Placed,
    state: State,
    pipeline: BoundPipeline,
    states: States,
    norms_BG: Tensor,
    good_B: Tensor,
) -> Tensor:
    """Every record's query vector q_BQ, capped at the query's bound; 0 for who is not valid."""
    query = placed.stage
    reads = pipeline.reads(placed, states)
    finite_BG = torch.where(good_B[:, None], norms_BG, 1.0)
    q_BQ = torch.func.vmap(lambda n_G: query.vector(state, n_G, reads))(finite_BG)
    expected = torch.Size((len(norms_BG), size_of(query, norms_BG.shape[1])))
    q_BQ = of_shape(q_BQ.to(torch.float64), expected, f"vectors of {placed.name}")
    norm_B = joint_norm(q_BQ)
    bound = torch.full_like(norm_B, query.bound)
    good_B = good_B & norm_B.isfinite()
    return torch.where(good_B[:, None], q_BQ * capped(norm_B, bound)[:, None], 0.0)


class Kernel:
    """Releases one phase's steps.

    release = (Σ_i clip(row_i) + noise of the noiser's law on the support) / divisor

    Args:
        pipeline: the pipeline in its space.
        expected_batch: rate × declared records, the divisor.
        relative_error: the engine's, a public constant. With M = max_batch(expected_batch),
            two sums of at most M guarded rows that differ in one record differ by at most
            C · (1 + 2 M (relative_error + M · 2⁻⁵³)), which is the sensitivity used.
        noise: where the noise's bits come from; anything but the system's is for tests.
        ranks: who steps together. M counts the rows of all, and a sum of at most M of them is as
            near in any order: a rank without a row adds 0.
    """

    def __init__(
        self,
        pipeline: BoundPipeline,
        *,
        expected_batch: float,
        relative_error: float,
        noise: NoiseSource | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        refuse_emulated_products(pipeline.device)
        self.pipeline = pipeline
        self.noise = noise if noise is not None else SystemNoise()
        self.ranks = ranks
        self._divisor = expected_batch
        self._max_batch = max_batch(expected_batch)
        self._margin = 2 * self._max_batch * (relative_error + self._max_batch * UNIT_ROUNDOFF)
        self._correlation: Correlation | None = None

    def release(
        self, states: States, context: StepContext, batch: Iterable[Rows]
    ) -> tuple[Release, States]:
        """One step: the sums of the batch's guarded rows, noised once and divided. `batch` yields
        the rows in pieces of any size; an empty one is an ordinary step.

        Privacy: one record moves each sum by at most its sensitivity (guarded_factors,
        guarded_vectors); noise is drawn once, on the whole support, whatever the records kept.
        """
        stages, pipeline, support_D = self.pipeline.stages, self.pipeline, context.support_D
        bound = pipeline.bound(states)
        total_K, sums = self._sums(states, bound, batch)
        noised = self._noised(self._bounded(total_K, bound), context)
        del total_K  # a long vector is let go where it ends: they are the memory of a step
        gradient = pipeline.post(states, noised)
        answers = {}
        for p in stages.of("query"):
            asked = self._bounded(sums[p.name], torch.full_like(bound, p.stage.bound))
            everywhere = torch.ones_like(asked.value, dtype=torch.bool)
            answers[p.name] = self._mint(asked, everywhere, p.stage.noise_ratio)
        if gradient is not noised or context.noise_support_K is not support_D:
            gradient = gradient.on(support_D)
        shown = (context.clock, context.public_MD, context.weights_D)
        release = Release(gradient, noised, answers, support_D, *shown)
        return release, pipeline.updated(states, context, release)

    def _sums(
        self, states: States, bound: Tensor, batch: Iterable[Rows]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The sums of the guarded rows, and of every query's vectors; both private."""
        stages, pipeline = self.pipeline.stages, self.pipeline
        clip_state = states[stages.name_in("clipper")]
        zeros = partial(torch.zeros, dtype=torch.float64, device=pipeline.device)
        shape, total_K = torch.Size((pipeline.output.size,)), None
        sums = {p.name: zeros(size_of(p.stage, pipeline.group_count)) for p in stages.of("query")}
        count = 0
        for rows in batch:
            with full_precision():
                norms_BG = rows.norm_upper_bounds().detach()  # a graph would lead back to the rows
                if len(norms_BG) == 0:
                    continue
                count += len(norms_BG)
                c_BG, good_B = guarded_factors(stages.clipper, clip_state, norms_BG, bound)
                sum_K = of_shape(rows.weighted_sum(c_BG).detach(), shape, "a sum of rows")
                total_K = sum_K.to(torch.float64) if total_K is None else total_K.add_(sum_K)
                for p in stages.of("query"):
                    vectors = guarded_vectors(p, states[p.name], pipeline, states, norms_BG, good_B)
                    sums[p.name] += vectors.sum(0)
        check_batch(self.ranks.total(count), self._max_batch)
        return zeros(shape) if total_K is None else total_K, sums

    def _bounded(self, value: Tensor, bound: Tensor) -> Bounded:
        return Bounded(value, bound * (1 + self._margin), _mint=_MINT)

    def _noised(self, guarded: Bounded, context: StepContext) -> Released:
        """The sum of rows with its noise: independent, or correlated with that of past steps."""
        support_K, stages, clock = context.noise_support_K, self.pipeline.stages, context.clock
        if stages.factorisation is None:
            return self._mint(guarded, support_K, 1.0)
        past = self._correlation or Correlation(stages, clock.steps, self._max_batch, self.ranks)
        self._correlation = past
        y = self._mint(Bounded(*past.encoded(clock.step, guarded), _mint=_MINT), support_K, 1.0)
        return y.derive(*past.decoded(clock.step, guarded.value, support_K, y.value, y.variance))

    def _mint(self, guarded: Bounded, support_K: Tensor, ratio: float) -> Released:
        """Noise of multiplier × sensitivity on the support, then the public divisor."""
        noiser, past, std = self.pipeline.stages.noiser, self._correlation, 0.0
        value_K = self.ranks.summed(guarded.value)
        if noiser.noise_multiplier > 0:
            value_K, std = LAWS[noiser.law].noised(
                value_K,
                coordinates=len(support_K) * (past.sums if past else 1),  # of all sums it is in
                sensitivity=float(guarded.sensitivity),
                noise_multiplier=noiser.noise_multiplier * ratio,
                records=self._max_batch * (past.spread if past else 1),
                source=self.noise,
            )
        value_K = self.ranks.joined(value_K, len(support_K))
        variance = (std / self._divisor) ** 2
        released_K = unwritten(len(value_K), value_K.device)
        for here in pieces(len(value_K), value_K.device):
            live_P = torch.where(support_K[here], value_K[here], 0.0)
            torch.div(live_P, self._divisor, out=released_K[here])
        return Released(
            released_K, lambda here: support_K[here].to(torch.float64).mul_(variance), _mint=_MINT
        )
