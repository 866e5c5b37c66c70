"""Every plan that has a name, with its source and what it needs beside the plan."""

from __future__ import annotations

from collections.abc import Mapping

from dpigu.mechanisms.presets import published as methods
from dpigu.mechanisms.presets.own import (
    Preset,
    adadpigu,
    adadpigu_paper,
    dpsgd,
    dpsgd_hf_channels,
    non_private,
)

_SCATTERING = {"features": "scattering"}

PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "adaclip",
            "centre and scale every coordinate by released moments",
            "Pichapati et al. 2019 (arXiv 1908.07643), Algorithm 2",
            methods.adaclip,
        ),
        Preset(
            "adadpigu",
            "coherent importance, progressive unfreezing, a scale for each layer",
            "after arXiv 2507.06525 and arXiv 1908.07643",
            adadpigu,
        ),
        Preset(
            "adadpigu-paper",
            "AdaDPIGU as the paper writes it, made private",
            "arXiv 2507.06525, Algorithms 1 and 2",
            adadpigu_paper,
        ),
        Preset(
            "augmented",
            "the mean gradient of four shifted views of each record",
            "De et al. 2022 (arXiv 2204.13650), section 3.2",
            methods.augmented,
        ),
        Preset(
            "automatic-clipping",
            "AUTO-S: every row brought near the bound",
            "Bu et al. 2023 (arXiv 2206.07136)",
            methods.automatic_clipping,
        ),
        Preset(
            "denoising",
            "each released coordinate shrunk by its known noise",
            "after Nasr et al. 2020 (arXiv 2007.11524)",
            methods.denoising,
            {"learning_rate": 2.0},
        ),
        Preset(
            "dp-adambc",
            "Adam that takes the noise off its second moment",
            "Tang et al. 2023 (arXiv 2312.14334), Algorithm 1",
            dpsgd,
            {"optimizer": "adam-bc", "learning_rate": 0.005},
        ),
        Preset(
            "dp-sat",
            "the gradient uphill along the last released one",
            "Park et al. 2023 (arXiv 2306.05651), Algorithm 1",
            methods.dp_sat,
        ),
        Preset(
            "dpdr",
            "along the last released gradient, and across it",
            "Liu et al. 2024 (arXiv 2406.02744)",
            methods.dpdr,
        ),
        Preset("dpsgd", "clip, sum, add noise", "Abadi et al. 2016, Algorithm 1", dpsgd),
        Preset(
            "dpsgd-ema",
            "the same, its weights averaged over the steps",
            "De et al. 2022 (arXiv 2204.13650), section 3.4",
            dpsgd,
            {"average": "ema"},
        ),
        Preset(
            "dpsgd-hf",
            "a linear model on scattering features, normalised within the record",
            "Tramèr and Boneh 2021 (arXiv 2011.11660)",
            dpsgd,
            {**_SCATTERING, "model": "scattering-linear"},
        ),
        Preset(
            "dpsgd-hf-channels",
            "the same, normalised by channel moments released in a charged phase",
            "Tramèr and Boneh 2021 (arXiv 2011.11660), section 3",
            dpsgd_hf_channels,
            {**_SCATTERING, "model": "scattering-linear-channels"},
        ),
        Preset(
            "dpsgd-hf-cnn",
            "a small convolutional net on scattering features",
            "Tramèr and Boneh 2021 (arXiv 2011.11660)",
            dpsgd,
            {**_SCATTERING, "model": "scattering-cnn"},
        ),
        Preset(
            "dpsgd-procedural",
            "a linear model on whitened patches of procedural images, a prior without any data",
            "after Coates and Ng 2011, Thiry et al. 2021 (arXiv 2101.07528)",
            dpsgd,
            {"features": "patches", "model": "linear"},
        ),
        Preset(
            "dpsgd-ts",
            "the data's own net with tempered sigmoids for its activations",
            "Papernot et al. 2021 (arXiv 2007.14191)",
            dpsgd,
            {"model": "tempered"},
        ),
        Preset(
            "dpsur",
            "keep an update only where a charged look says that it helps",
            "Fu et al. 2023 (arXiv 2311.14056), every look charged",
            methods.dpsur,
        ),
        Preset(
            "fedsel",
            "records vote for their largest coordinates, and the winners train",
            "after Liu et al. 2020 (arXiv 2003.10637)",
            methods.fedsel,
        ),
        Preset(
            "gep",
            "embedding in a subspace and residual, clipped apart and released together",
            "Yu et al. 2021 (arXiv 2102.12677), the subspace of released gradients",
            methods.gep,
        ),
        Preset(
            "gep-public",
            "the same with the subspace of public gradients",
            "Yu et al. 2021 (arXiv 2102.12677), Algorithm 1",
            methods.gep_public,
            {"public": "procedural"},
        ),
        Preset(
            "gradient-encoding",
            "gradients in a public linear code of half their length",
            "after Nasr et al. 2020 (arXiv 2007.11524)",
            methods.gradient_encoding,
        ),
        Preset(
            "linear-probing",
            "the last layer alone",
            "Abadi et al. 2016, section 5.3",
            methods.linear_probing,
        ),
        Preset("non-private", "plain training, without any claim", "", non_private),
        Preset(
            "normalised-clipping",
            "every row brought to the bound exactly",
            "Das et al. 2021; Bu et al. 2023 (arXiv 2206.07136)",
            methods.normalised_clipping,
        ),
        Preset(
            "pcdp-sgd",
            "project each record's gradient to a subspace before it is clipped",
            "Sha et al. 2023 (arXiv 2312.03792)",
            methods.pcdp_sgd,
        ),
        Preset(
            "pdp-sgd",
            "drop the noise outside a subspace of released gradients",
            "Zhou et al. 2021 (arXiv 2007.03813)",
            methods.pdp_sgd,
        ),
        Preset(
            "pdp-sgd-public",
            "the same with the subspace of public gradients",
            "Zhou et al. 2021 (arXiv 2007.03813), Algorithm 1",
            methods.pdp_sgd_public,
            {"public": "procedural"},
        ),
        Preset(
            "per-layer-clipping",
            "a bound for every layer, with one joint bound",
            "McMahan et al. 2018 (arXiv 1710.06963), section 2.3",
            methods.per_layer_clipping,
        ),
        Preset(
            "quantile-clipping",
            "a bound that follows a quantile by a noised count",
            "Andrew et al. 2021 (arXiv 1905.03871), Algorithm 1",
            methods.quantile_clipping,
            {"learning_rate": 0.3},
        ),
        Preset(
            "random-freeze",
            "a fresh random support at every step, shrinking",
            "Zhu and Blaschko 2021 (arXiv 2112.00845)",
            methods.random_freeze,
        ),
        Preset(
            "random-selection",
            "a fixed random half of the parameters",
            "the control of Adamczewski and Park 2023",
            methods.random_selection,
        ),
        Preset(
            "rgp",
            "gradients of low-rank carriers of every weight matrix",
            "Yu et al. 2021 (arXiv 2106.09352)",
            methods.rgp,
        ),
        Preset(
            "selection",
            "the half of the parameters with the largest initial weights",
            "after Adamczewski and Park 2023",
            methods.selection,
        ),
    )
}
