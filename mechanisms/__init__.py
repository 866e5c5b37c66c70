"""The built-in stages, a file for each idea, and plans that read like the papers."""

if __name__ != "dpigu.mechanisms":
    raise ImportError("import dpigu.mechanisms, or take what you need from dpigu")

from dpigu.mechanisms.clippers import (
    Automatic,
    ClippedCount,
    Flat,
    Normalised,
    PerGroup,
    Quantile,
    Unclipped,
)
from dpigu.mechanisms.points import MaskedWeights
from dpigu.mechanisms.presets import PRESETS, Preset
from dpigu.mechanisms.presets.adadpigu import adadpigu, adadpigu_paper
from dpigu.mechanisms.presets.dpsgd import dpsgd, non_private
from dpigu.mechanisms.release import (
    AffineRestorer,
    BandedToeplitz,
    FloatGaussian,
    Gaussian,
    JamesStein,
    Sharpness,
    SoftThreshold,
)
from dpigu.mechanisms.rows import (
    AdaClip,
    Decode,
    Decompose,
    EmaStandardizer,
    Encode,
    GroupStandardizer,
    Lift,
    LowRank,
    LowRankRestorer,
    Project,
    ProjectReleased,
    Recompose,
    RowTopK,
)
from dpigu.mechanisms.statistics import (
    ChannelMoments,
    Correctness,
    LossChange,
    Threshold,
    training_accuracy,
)
from dpigu.mechanisms.subspaces import PublicSubspace, ReleasedSubspace
from dpigu.mechanisms.support import (
    Coherent,
    CosineUnfreeze,
    ExponentialUnfreeze,
    LinearUnfreeze,
    MeanAbsolute,
    NamedLayers,
    Random,
    RandomFreeze,
    StepUnfreeze,
    TopK,
    TopVotes,
    VoteCount,
    WeightMagnitude,
)
from dpigu.mechanisms.views import ShiftFlip

__all__ = [
    "PRESETS",
    "AdaClip",
    "AffineRestorer",
    "Automatic",
    "BandedToeplitz",
    "ChannelMoments",
    "ClippedCount",
    "Coherent",
    "Correctness",
    "CosineUnfreeze",
    "Decode",
    "Decompose",
    "EmaStandardizer",
    "Encode",
    "ExponentialUnfreeze",
    "Flat",
    "FloatGaussian",
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
    "training_accuracy",
]
