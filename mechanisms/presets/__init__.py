"""Plans by name: published methods and this project's own, one decorated function each."""

from dpigu.mechanisms.presets import (
    adadpigu,
    clipping,
    correlated,
    dpsgd,
    released,
    selection,
    subspaces,
)
from dpigu.mechanisms.presets.preset import DECORATED, Preset

PRESETS = {name: DECORATED[name] for name in sorted(DECORATED)}
"""The plans that have a name, each with how its run is set up."""

__all__ = [
    "PRESETS",
    "Preset",
    "adadpigu",
    "clipping",
    "correlated",
    "dpsgd",
    "released",
    "selection",
    "subspaces",
]
