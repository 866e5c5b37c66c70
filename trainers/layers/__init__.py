"""How each layer type forms a record's rows, and how rows become norms and clipped sums."""

from trainers.layers.diagonal import Diagonal
from trainers.layers.kinds import KNOWN, seen_by
from trainers.layers.statistics import Factors, Formed, Sparse, Statistic, Summed, viewed
from trainers.layers.ways import GRAM_ERROR, Way, choose
from trainers.layers.workspace import Workspace

__all__ = [
    "GRAM_ERROR",
    "KNOWN",
    "Diagonal",
    "Factors",
    "Formed",
    "Sparse",
    "Statistic",
    "Summed",
    "Way",
    "Workspace",
    "choose",
    "seen_by",
    "viewed",
]
