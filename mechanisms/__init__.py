"""The built-in stages, a file for each idea, and plans that read like the papers."""

if __name__ != "dpigu.mechanisms":
    raise ImportError("import dpigu.mechanisms, or take what you need from dpigu")

from dpigu.mechanisms.clippers.flat import Flat, Unclipped
from dpigu.mechanisms.clippers.per_group import PerGroup
from dpigu.mechanisms.clippers.quantile import Quantile
from dpigu.mechanisms.clippers.queries import ClippedCount
from dpigu.mechanisms.clippers.scaled import Automatic, Normalised
from dpigu.mechanisms.points import MaskedWeights
from dpigu.mechanisms.presets import PRESETS, Preset
from dpigu.mechanisms.presets.adadpigu import adadpigu, adadpigu_paper
from dpigu.mechanisms.presets.dpsgd import dpsgd, non_private
from dpigu.mechanisms.release.denoisers import JamesStein, SoftThreshold
from dpigu.mechanisms.release.noisers import Gaussian
from dpigu.mechanisms.release.restorers import AffineRestorer
from dpigu.mechanisms.release.sharpness import Sharpness
from dpigu.mechanisms.rows.adaclip import AdaClip
from dpigu.mechanisms.rows.codes import Decode, Encode
from dpigu.mechanisms.rows.low_rank import LowRank, LowRankRestorer
from dpigu.mechanisms.rows.projections import Decompose, Lift, Project, ProjectReleased, Recompose
from dpigu.mechanisms.rows.sparsifiers import RowTopK
from dpigu.mechanisms.rows.standardizers import EmaStandardizer, GroupStandardizer
from dpigu.mechanisms.statistics.moments import ChannelMoments
from dpigu.mechanisms.statistics.selective_update import LossChange, Threshold
from dpigu.mechanisms.subspaces import PublicSubspace, ReleasedSubspace
from dpigu.mechanisms.support.named_layers import NamedLayers
from dpigu.mechanisms.support.schedulers import (
    CosineUnfreeze,
    ExponentialUnfreeze,
    LinearUnfreeze,
    RandomFreeze,
    StepUnfreeze,
    TopK,
)
from dpigu.mechanisms.support.scorers import Coherent, MeanAbsolute, Random, WeightMagnitude
from dpigu.mechanisms.support.votes import TopVotes, VoteCount
from dpigu.mechanisms.views import ShiftFlip

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
