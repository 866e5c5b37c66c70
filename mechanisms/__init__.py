"""The built-in stages, a file for each kind, and presets that read like the paper."""

from mechanisms.adaclip import AdaClip
from mechanisms.clippers import Flat, Unclipped
from mechanisms.denoisers import JamesStein, SoftThreshold
from mechanisms.group_clippers import PerGroup
from mechanisms.moments import ChannelMoments
from mechanisms.named_layers import NamedLayers
from mechanisms.noisers import Gaussian
from mechanisms.points import MaskedWeights
from mechanisms.presets import PRESETS, Preset, adadpigu, adadpigu_paper, dpsgd, non_private
from mechanisms.quantile_clipper import Quantile
from mechanisms.queries import ClippedCount
from mechanisms.restorers import AffineRestorer
from mechanisms.scaled_clippers import Automatic, Normalised
from mechanisms.schedulers import (
    CosineUnfreeze,
    ExponentialUnfreeze,
    LinearUnfreeze,
    RandomFreeze,
    StepUnfreeze,
    TopK,
)
from mechanisms.scorers import Coherent, MeanAbsolute, Random, WeightMagnitude
from mechanisms.sharpness import Sharpness
from mechanisms.sparsifiers import RowTopK
from mechanisms.standardizers import EmaStandardizer, GroupStandardizer

__all__ = [
    "PRESETS",
    "AdaClip",
    "AffineRestorer",
    "Automatic",
    "ChannelMoments",
    "ClippedCount",
    "Coherent",
    "CosineUnfreeze",
    "EmaStandardizer",
    "ExponentialUnfreeze",
    "Flat",
    "Gaussian",
    "GroupStandardizer",
    "JamesStein",
    "LinearUnfreeze",
    "MaskedWeights",
    "MeanAbsolute",
    "NamedLayers",
    "Normalised",
    "PerGroup",
    "Preset",
    "Quantile",
    "Random",
    "RandomFreeze",
    "RowTopK",
    "Sharpness",
    "SoftThreshold",
    "StepUnfreeze",
    "TopK",
    "Unclipped",
    "WeightMagnitude",
    "adadpigu",
    "adadpigu_paper",
    "dpsgd",
    "non_private",
]
