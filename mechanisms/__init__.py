"""The built-in stages, a file for each kind, and presets that read like the paper."""

from mechanisms.clippers import Flat, Unclipped
from mechanisms.noisers import Gaussian
from mechanisms.points import MaskedWeights
from mechanisms.presets import PRESETS, Preset, adadpigu, adadpigu_paper, dpsgd, non_private
from mechanisms.restorers import AffineRestorer
from mechanisms.schedulers import (
    CosineUnfreeze,
    ExponentialUnfreeze,
    LinearUnfreeze,
    RandomFreeze,
    StepUnfreeze,
    TopK,
)
from mechanisms.scorers import Coherent, MeanAbsolute, Random, WeightMagnitude
from mechanisms.sparsifiers import RowTopK
from mechanisms.standardizers import EmaStandardizer, GroupStandardizer

__all__ = [
    "PRESETS",
    "AffineRestorer",
    "Coherent",
    "CosineUnfreeze",
    "EmaStandardizer",
    "ExponentialUnfreeze",
    "Flat",
    "Gaussian",
    "GroupStandardizer",
    "LinearUnfreeze",
    "MaskedWeights",
    "MeanAbsolute",
    "Preset",
    "Random",
    "RandomFreeze",
    "RowTopK",
    "StepUnfreeze",
    "TopK",
    "Unclipped",
    "WeightMagnitude",
    "adadpigu",
    "adadpigu_paper",
    "dpsgd",
    "non_private",
]
