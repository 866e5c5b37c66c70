"""Which coordinates are live at a step: importance scorers and mask schedulers."""

from dpigu.mechanisms.support.named_layers import NamedLayers
from dpigu.mechanisms.support.schedulers import (
    CosineUnfreeze,
    ExponentialUnfreeze,
    LinearUnfreeze,
    RandomFreeze,
    StepUnfreeze,
    TopK,
    kept,
)
from dpigu.mechanisms.support.scorers import (
    Coherent,
    MeanAbsolute,
    PublicEnergy,
    Random,
    SignalEnergy,
    WeightMagnitude,
)
from dpigu.mechanisms.support.votes import TopVotes, VoteCount

__all__ = [
    "Coherent",
    "CosineUnfreeze",
    "ExponentialUnfreeze",
    "LinearUnfreeze",
    "MeanAbsolute",
    "NamedLayers",
    "PublicEnergy",
    "Random",
    "RandomFreeze",
    "SignalEnergy",
    "StepUnfreeze",
    "TopK",
    "TopVotes",
    "VoteCount",
    "WeightMagnitude",
    "kept",
]
