"""Bugs planted in published methods: what is learnt from releases, and from which step."""

from __future__ import annotations

from dpigu.mechanisms import (
    GeoClip,
    GroupQuantile,
    LowPass,
    MacAdam,
    PublicEnergy,
    SignalEnergy,
    TwoPoints,
    ZerothOrder,
)
from dpigu.mechanisms.clippers import least_error as least_error_module
from dpigu.trainers.optim.matrices import Muon, Shampoo
from hypothesis import strategies as st

from tests.mechanisms.clippers import test_group_quantile as group_quantile
from tests.mechanisms.clippers import test_least_error as least_error
from tests.mechanisms.release import test_low_pass as low_pass
from tests.mechanisms.rows import test_geo_clip as geo_clip
from tests.mechanisms.rows import test_mac_adam as mac_adam
from tests.mechanisms.statistics import test_two_points as two_points
from tests.mechanisms.statistics import test_zeroth_order as zeroth_order
from tests.mechanisms.support import test_scorers as scorers
from tests.mutants.core.core_table import KernelMutant
from tests.trainers.optim import test_matrices as matrices

FILTERED = {"taken": low_pass.FILTERS, "seed": low_pass.SEEDS}
SLOPES = {"seed": zeroth_order.SEEDS, "step": zeroth_order.STEPS}

MUTANTS = (
    KernelMutant(
        "a filter whose first steps are shorter",
        LowPass,
        "apply",
        (("released.derive(m_D / scale,", "released.derive(m_D,"),),
        low_pass.law_what_is_released_is_filtered_over_the_steps,
        FILTERED,
    ),
    KernelMutant(
        "a filter that remembers what it gave out, before the bias was taken off",
        LowPass,
        "update",
        (("m_D = scale * release", "m_D = release"),),
        low_pass.law_what_is_released_is_filtered_over_the_steps,
        FILTERED,
    ),
    KernelMutant(
        "a filter that says that the noise of all steps is new",
        LowPass,
        "apply",
        (("share**2 * released.variance", "released.variance"),),
        low_pass.law_what_is_released_is_filtered_over_the_steps,
        FILTERED,
    ),
    KernelMutant(
        "a slope of one side, as long as of two",
        ZerothOrder,
        "row_of",
        (("record.loss(weights_D - aside_D)", "record.loss(weights_D)"),),
        zeroth_order.law_the_row_is_the_slope_of_the_record_s_loss,
        SLOPES,
    ),
    KernelMutant(
        "a slope that is taken for the next step's direction",
        ZerothOrder,
        "gradient",
        (("release.clock.step,", "release.clock.step + 1,"),),
        zeroth_order.law_the_gradient_lies_along_the_direction_of_the_step_that_was_released,
        {"step": zeroth_order.STEPS},
    ),
    KernelMutant(
        "bounds of layers that run away from the quantile",
        GroupQuantile,
        "update",
        (("torch.exp(-self.rate", "torch.exp(self.rate"),),
        group_quantile.law_a_step_moves_quantiles_and_never_the_joint_bound,
        group_quantile.CHOSEN,
    ),
    KernelMutant(
        "noise that grows with the bound and not with its square",
        least_error_module,
        "least_error",
        (("edges_K**2 * noise", "edges_K * noise"),),
        least_error.law_the_bound_has_the_least_error,
        least_error.CHOSEN,
    ),
    KernelMutant(
        "a spread that is short of what the new mean took up",
        MacAdam,
        "update",
        (("(gradient.value - before_D) * (", "(gradient.value - after_D) * ("),),
        mac_adam.law_the_moments_follow_the_paper,
        mac_adam.DRAWN,
    ),
    KernelMutant(
        "a spread with the noise in it",
        MacAdam,
        "update",
        ((" - gradient.variance).clamp", ").clamp"),),
        mac_adam.law_the_moments_follow_the_paper,
        mac_adam.DRAWN,
    ),
    KernelMutant(
        "axes of what was not centred",
        GeoClip,
        "row",
        (("(g_D - mean_D)", "g_D"),),
        geo_clip.law_a_row_is_the_map_of_the_covariance,
        geo_clip.DRAWN,
    ),
    KernelMutant(
        "a score with the energy of the noise in it",
        SignalEnergy,
        "update",
        (("**2 - gradient.variance", "**2"),),
        scorers.law_signal_energy_is_the_mean_square_less_the_noise,
        {"seeds": scorers.SEEDS, "noise": st.floats(0.1, 3.0)},
    ),
    KernelMutant(
        "public importance of norms that are not squared",
        PublicEnergy,
        "init",
        (("norm_D.square()", "norm_D"),),
        scorers.law_public_energy_is_the_mean_square_of_public_gradients,
        {"seeds": scorers.SEEDS},
    ),
    KernelMutant(
        "a second point whose weight forgets how far ahead it is",
        TwoPoints,
        "row_of",
        (("/ (self.gain * self.ahead)", "/ self.gain"),),
        two_points.law_the_row_is_the_weighted_gradient_at_both_points,
        two_points.DRAWN,
    ),
    KernelMutant(
        "a step as long as the sides' ratio and not its root",
        Muon,
        "move",
        (("math.sqrt(max(1.0, m_RC.shape[0] / m_RC.shape[1]))", "max(1.0, m_RC.shape[0])"),),
        matrices.law_a_step_of_muon_is_the_formula,
        {"shape": matrices.SHAPES, "seed": st.integers(0, 99)},
    ),
    KernelMutant(
        "a preconditioner that learns the noise",
        Shampoo,
        "_learn",
        ((" - torch.diag(v_S)", ""),),
        matrices.law_shampoo_learns_the_gradient_s_matrix_and_not_the_noise_s,
    ),
)
