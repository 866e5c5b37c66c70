"""The generic trainer: data, models, engines, the loop and the run folder."""

from trainers.data import SPECS, Data, DataSpec, load_data
from trainers.engine import MaterialisingEngine, cross_entropy
from trainers.loop import Run, train
from trainers.models import MODELS, build_model, default_model
from trainers.phase import Observer
from trainers.recipe import Recipe, recipe_for, recipe_from_file
from trainers.runs import load_run
from trainers.settings import Settings

__all__ = [
    "MODELS",
    "SPECS",
    "Data",
    "DataSpec",
    "MaterialisingEngine",
    "Observer",
    "Recipe",
    "Run",
    "Settings",
    "build_model",
    "cross_entropy",
    "default_model",
    "load_data",
    "load_run",
    "recipe_for",
    "recipe_from_file",
    "train",
]
