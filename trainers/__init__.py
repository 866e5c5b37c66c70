"""The generic trainer: data, models, engines, the loop and the run folder."""

if __name__ != "dpigu.trainers":
    raise ImportError("import dpigu.trainers, or take what you need from dpigu")

from dpigu.trainers.calibration import calibrate
from dpigu.trainers.data.dataset import SPECS, Data, DataSpec
from dpigu.trainers.data.features import with_features
from dpigu.trainers.data.loading import load_data
from dpigu.trainers.data.making import data_from
from dpigu.trainers.data.scaling import Scaling
from dpigu.trainers.data.sources import Arrays, Items, Source, Tensors
from dpigu.trainers.engines import MaterialisingEngine
from dpigu.trainers.lineage import lineage_of
from dpigu.trainers.models.registry import MODELS, build_model, default_model
from dpigu.trainers.phase import Observer
from dpigu.trainers.recipes.recipe import Recipe, recipe_for, recipe_from_file
from dpigu.trainers.resuming import resume
from dpigu.trainers.runs.load import load_run
from dpigu.trainers.settings import Settings
from dpigu.trainers.tasks import TASKS, Task
from dpigu.trainers.tasks.losses import cross_entropy
from dpigu.trainers.training import Run, train

__all__ = [
    "MODELS",
    "SPECS",
    "TASKS",
    "Arrays",
    "Data",
    "DataSpec",
    "Items",
    "MaterialisingEngine",
    "Observer",
    "Recipe",
    "Run",
    "Scaling",
    "Settings",
    "Source",
    "Task",
    "Tensors",
    "build_model",
    "calibrate",
    "cross_entropy",
    "data_from",
    "default_model",
    "lineage_of",
    "load_data",
    "load_run",
    "recipe_for",
    "recipe_from_file",
    "resume",
    "train",
    "with_features",
]
