"""How each layer type forms a record's rows, and how rows become norms and clipped sums."""

from dpigu.trainers.engines.layers.affine_slice import AffineSlice
from dpigu.trainers.engines.layers.kinds import KNOWN, own_dims, rows_of, seen_by
from dpigu.trainers.engines.layers.norm_methods import GRAM_ERROR, NormMethod, choose
from dpigu.trainers.engines.layers.parameter_rows import (
    Factors,
    Formed,
    ParameterRows,
    Sparse,
    Summed,
    viewed,
)
from dpigu.trainers.engines.layers.workspace import Workspace

__all__ = [
    "GRAM_ERROR",
    "KNOWN",
    "AffineSlice",
    "Factors",
    "Formed",
    "NormMethod",
    "ParameterRows",
    "Sparse",
    "Summed",
    "Workspace",
    "choose",
    "own_dims",
    "rows_of",
    "seen_by",
    "viewed",
]
