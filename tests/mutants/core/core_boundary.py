"""Bugs planted in the kernel: guard, sum, noise, support, divisor."""

from __future__ import annotations

import torch
from dpigu.dpcore import DenseRows, Kernel, Transform
from dpigu.dpcore import kernel as kernel_module
from dpigu.trainers.lifecycle import prepare
from hypothesis import strategies as st

from tests.laws import test_accounting as accounting
from tests.laws import test_non_interference as non_interference
from tests.laws import test_sensitivity as sensitivity
from tests.laws import test_support as support
from tests.laws.noise import test_noise as noise
from tests.laws.records import test_execution as execution
from tests.mutants.core.core_table import KernelMutant
from tests.support.laws.strategies import batches, steps

TAME = batches(min_size=1, wild=False, dtypes=(torch.float64,))
STEPS = {"here": noise.WITH_QUERIES, "g_BD": batches()}
SIZED = {**STEPS, "size": st.integers(1, 7)}
ROWS = {"here": sensitivity.STEPS, "g_BD": batches(min_size=1)}
WHOLE_STEP = {"here": steps(), "g_BD": batches()}
SCALED = "noise_multiplier=noiser.noise_multiplier * ratio"
ON_SUPPORT = "torch.where(support_K[here], value_K[here], 0.0)"
GUARD = "c_BG = c_BG * capped(joint_B, bound)[:, None]"
SUM = 'sum_K = of_shape(rows.weighted_sum(c_BG).detach(), shape, "a sum of rows")'
UPDATE = "return release, pipeline.updated(states, context, release)"

GUARDED = "return torch.where(good_B[:, None] & (c_BG.abs() >= SMALLEST), c_BG, 0.0), good_B"
CALIBRATED = "calibrate(plan, settings, data.spec.records)"

MUTANTS = (
    KernelMutant(
        "noise divided by the batch twice",
        Kernel,
        "_mint",
        ((SCALED, SCALED + " / self._divisor"),),
        noise.law_scale,
        SIZED,
    ),
    KernelMutant(
        "noise of σC/B per record, then averaged",
        Kernel,
        "_mint",
        ((SCALED, SCALED + " / self._divisor**0.5"),),
        accounting.law_charged_is_what_ran,
    ),
    KernelMutant(
        "noise scaled to one layer's bound",
        Kernel,
        "_mint",
        ((SCALED, SCALED + " / self.pipeline.space.group_count('layer') ** 0.5"),),
        noise.law_scale,
        SIZED,
    ),
    KernelMutant(
        "noise without the rounding margin",
        Kernel,
        "_bounded",
        (("bound * (1 + self._margin)", "bound"),),
        noise.law_scale,
        SIZED,
    ),
    KernelMutant(
        "a query's noise ratio forgotten",
        Kernel,
        "release",
        (("p.stage.noise_ratio", "1.0"),),
        accounting.law_charged_is_what_ran,
    ),
    KernelMutant(
        "missing clip",
        kernel_module,
        "guarded_factors",
        ((GUARD, "pass"),),
        sensitivity.law_guarded_row,
        ROWS,
    ),
    KernelMutant(
        "clip of the mean instead of each record",
        Kernel,
        "_sums",
        (
            (
                SUM,
                "sum_K = rows.weighted_sum(torch.ones_like(c_BG)).detach()\n"
                "            mean = joint_norm(sum_K[None] / len(c_BG))\n"
                "            sum_K = sum_K * capped(mean, bound)",
            ),
        ),
        sensitivity.law_sensitivity,
        {**sensitivity.MOVES, "g_BD": TAME},
    ),
    KernelMutant(
        "clipping by the group's bound in every group",
        kernel_module,
        "guarded_factors",
        (("joint_norm(c_BG * norms_BG)", "(c_BG * norms_BG).abs().amax(1)"),),
        sensitivity.law_guarded_row,
        ROWS,
    ),
    KernelMutant(
        "norms without upper rounding",
        DenseRows,
        "norm_upper_bounds",
        (("(1 + (size + 4) * UNIT_ROUNDOFF)", "1"),),
        sensitivity.law_guarded_row,
        ROWS,
    ),
    KernelMutant(
        "the guard's joint norm without upper rounding",
        kernel_module,
        "joint_norm",
        (("(1 + (v_BG.shape[1] + 4) * UNIT_ROUNDOFF)", "1"),),
        sensitivity.law_joint_norm_is_an_upper_bound,
        {"v_BG": sensitivity.FACTORS},
    ),
    KernelMutant(
        "the guard's factor without slack for its own rounding",
        kernel_module,
        "capped",
        (("(1 - ROUNDING)", "1"),),
        sensitivity.law_capped_norm_is_within_the_bound,
        {"norm": sensitivity.NORMS, "bound": sensitivity.BOUNDS},
    ),
    KernelMutant(
        "a quotient that underflows in the guard",
        kernel_module,
        "capped",
        (
            (
                "torch.where(factor_B < SMALLEST, 0.0, factor_B * (1 - ROUNDING))",
                "factor_B * (1 - ROUNDING)",
            ),
        ),
        sensitivity.law_capped_norm_is_within_the_bound,
        {"norm": sensitivity.NORMS, "bound": sensitivity.BOUNDS},
    ),
    KernelMutant(
        "a product that underflows in the guard",
        kernel_module,
        "guarded_factors",
        ((" & (c_BG.abs() >= SMALLEST)", ""),),
        sensitivity.law_a_factor_keeps_the_bound,
        {
            "factor": st.sampled_from((1e-310, 2.0**-900)),
            "bound": st.floats(1e-24, 1e-22),
            "norm": st.floats(1e299, 1e301),
        },
    ),
    KernelMutant(
        "norms in the rows' own precision",
        DenseRows,
        "norm_upper_bounds",
        (("squares = part.square_()", "squares = part.float().square().double()"),),
        sensitivity.law_guarded_row,
        ROWS,
    ),
    KernelMutant(
        "NaN rows that reach the sum",
        kernel_module,
        "guarded_factors",
        ((GUARDED, "return c_BG, good_B"),),
        sensitivity.law_sensitivity,
        sensitivity.MOVES,
    ),
    KernelMutant(
        "0 · NaN: weights of zero applied by a product",
        DenseRows,
        "weighted_sum",
        (("part = torch.where((factors != 0).any(1, keepdim=True), part, 0)", "pass"),),
        sensitivity.law_sensitivity,
        sensitivity.MOVES,
    ),
    KernelMutant(
        "sums in float32",
        Kernel,
        "_sums",
        (("zeros, dtype=torch.float64", "zeros, dtype=torch.float32"),),
        execution.law_microbatches_and_order,
        {
            "here": execution.STEPS,
            "g_BD": TAME,
            "order": st.permutations(range(6)),
            "size": st.integers(1, 3),
        },
    ),
    KernelMutant(
        "a query without its guard",
        kernel_module,
        "guarded_vectors",
        (("q_BQ * capped(norm_B, bound)[:, None]", "q_BQ"),),
        sensitivity.law_guarded_query,
        ROWS,
    ),
    KernelMutant(
        "a query of a record that is not valid",
        kernel_module,
        "guarded_vectors",
        (("good_B = good_B & norm_B.isfinite()", "good_B = norm_B.isfinite()"),),
        sensitivity.law_guarded_query,
        ROWS,
    ),
    KernelMutant(
        "noise added per microbatch",
        Kernel,
        "_sums",
        ((SUM, SUM + " + torch.from_numpy(self.noise.words(shape[0]) * 2.0**-64)"),),
        noise.law_once_a_step,
        SIZED,
    ),
    KernelMutant(
        "noise only where some record kept something",
        Kernel,
        "_mint",
        ((ON_SUPPORT, "torch.where(guarded.value[here] != 0, value_K[here], 0.0)"),),
        support.law_noise_on_the_support_and_only_there,
        WHOLE_STEP,
    ),
    KernelMutant(
        "noise off the support too",
        Kernel,
        "_mint",
        ((ON_SUPPORT, "value_K[here]"),),
        support.law_noise_on_the_support_and_only_there,
        WHOLE_STEP,
    ),
    KernelMutant(
        "posts that move frozen coordinates",
        Kernel,
        "release",
        (("gradient = gradient.on(support_D)", "pass"),),
        support.law_noise_on_the_support_and_only_there,
        WHOLE_STEP,
    ),
    KernelMutant(
        "frozen coordinates that spend the clipping budget",
        Transform,
        "one",
        (("z = self._supported(z)", "pass"),),
        support.law_frozen_coordinates_spend_no_budget,
        WHOLE_STEP,
    ),
    KernelMutant(
        "a divisor from the realised batch",
        Kernel,
        "_sums",
        (
            (
                "return zeros(shape) if total_K is None else total_K, sums",
                "self._divisor = count or 1\n"
                "    return zeros(shape) if total_K is None else total_K, sums",
            ),
        ),
        support.law_noise_on_the_support_and_only_there,
        WHOLE_STEP,
    ),
    KernelMutant(
        "a divisor from the records that are present",
        prepare,
        "prepare",
        ((CALIBRATED, "calibrate(plan, settings, len(data.train))"),),
        accounting.law_the_divisor_is_public,
    ),
    KernelMutant(
        "statistics and scores from un-noised gradients",
        Kernel,
        "release",
        (
            ("del total_K", "pass"),
            (
                UPDATE,
                "same = pipeline.output == pipeline.space\n"
                "    raw_K = total_K / self._divisor if same else gradient.value\n"
                "    clear = gradient.derive(raw_K, gradient.variance)\n"
                "    clock, public_MD = context.clock, context.public_MD\n"
                "    secret = Release(clear, noised, answers, support_D, clock, public_MD)\n"
                "    return release, pipeline.updated(states, context, secret)",
            ),
        ),
        non_interference.law_raw_data_change_no_public_bit,
        {
            "plan": non_interference.PLANS,
            "one": non_interference.RAW,
            "other": non_interference.RAW,
            "seed": st.integers(0, 99),
        },
    ),
)
