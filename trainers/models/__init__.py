"""Models by name, and the factories that users name."""

from dpigu.trainers.models.registry import MODELS, build_model, default_model, refuse_mixing_modules

__all__ = [
    "MODELS",
    "build_model",
    "default_model",
    "refuse_mixing_modules",
]
