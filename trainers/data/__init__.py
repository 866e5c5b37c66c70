"""Records and their declared constants: by name, from files, as fixed features."""

from dpigu.trainers.data.dataset import (
    BYTES,
    SPECS,
    Data,
    DataSpec,
    Scaling,
    load_data,
    load_public,
)
from dpigu.trainers.data.features import FEATURES, feature_map, feature_spec, with_features
from dpigu.trainers.data.procedural import PROCEDURAL, procedural

__all__ = [
    "BYTES",
    "FEATURES",
    "PROCEDURAL",
    "SPECS",
    "Data",
    "DataSpec",
    "Scaling",
    "feature_map",
    "feature_spec",
    "load_data",
    "load_public",
    "procedural",
    "with_features",
]
