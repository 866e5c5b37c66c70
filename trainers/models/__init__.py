"""Models by name, the factories that users name, and modules that mix records."""

from dpigu.trainers.models.mixing import Change, fix, refuse_mixing_modules
from dpigu.trainers.models.registry import MODELS, build_model, default_model

__all__ = [
    "MODELS",
    "Change",
    "build_model",
    "default_model",
    "fix",
    "refuse_mixing_modules",
]
