"""Records and their declared constants: by name, from files, as fixed features."""

from dpigu.trainers.data.dataset import SPECS, Data, DataSpec
from dpigu.trainers.data.features.procedural import PROCEDURAL, procedural
from dpigu.trainers.data.features.registry import FEATURES, feature_map, feature_spec, with_features
from dpigu.trainers.data.loading import load_data, load_public
from dpigu.trainers.data.making import data_from
from dpigu.trainers.data.scaling import BYTES, Scaling
from dpigu.trainers.data.sources import Arrays, Items, Source, Tensors

__all__ = [
    "BYTES",
    "FEATURES",
    "PROCEDURAL",
    "SPECS",
    "Arrays",
    "Data",
    "DataSpec",
    "Items",
    "Scaling",
    "Source",
    "Tensors",
    "data_from",
    "feature_map",
    "feature_spec",
    "load_data",
    "load_public",
    "procedural",
    "with_features",
]
