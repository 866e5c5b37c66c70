"""The built-in stages, a file for each idea, and plans that read like the papers."""

from mechanisms.adaclip import AdaClip
from mechanisms.augmentations import ShiftFlip
from mechanisms.catalogue import PRESETS
from mechanisms.clippers import Flat, Unclipped
from mechanisms.codes import Decode, Encode
from mechanisms.denoisers import JamesStein, SoftThreshold
from mechanisms.group_clippers import PerGroup
from mechanisms.looks import LossChange, Threshold
from mechanisms.low_rank import LowRank, LowRankRestorer
from mechanisms.moments import ChannelMoments
from mechanisms.named_layers import NamedLayers
from mechanisms.noisers import Gaussian
from mechanisms.points import MaskedWeights
from mechanisms.presets import Preset, adadpigu, adadpigu_paper, dpsgd, non_private
from mechanisms.projections import Decompose, Lift, Project, ProjectReleased, Recompose
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
from mechanisms.subspaces import PublicSubspace, ReleasedSubspace
from mechanisms.votes import TopVotes, VoteCount

__all__ = [
    "PRESETS",
    "AdaClip",
    "AffineRestorer",
    "Automatic",
    "ChannelMoments",
    "ClippedCount",
    "Coherent",
    "CosineUnfreeze",
    "Decode",
    "Decompose",
    "EmaStandardizer",
    "Encode",
    "ExponentialUnfreeze",
    "Flat",
    "Gaussian",
    "GroupStandardizer",
    "JamesStein",
    "Lift",
    "LinearUnfreeze",
    "LossChange",
    "LowRank",
    "LowRankRestorer",
    "MaskedWeights",
    "MeanAbsolute",
    "NamedLayers",
    "Normalised",
    "PerGroup",
    "Preset",
    "Project",
    "ProjectReleased",
    "PublicSubspace",
    "Quantile",
    "Random",
    "RandomFreeze",
    "Recompose",
    "ReleasedSubspace",
    "RowTopK",
    "Sharpness",
    "ShiftFlip",
    "SoftThreshold",
    "StepUnfreeze",
    "Threshold",
    "TopK",
    "TopVotes",
    "Unclipped",
    "VoteCount",
    "WeightMagnitude",
    "adadpigu",
    "adadpigu_paper",
    "dpsgd",
    "non_private",
]
