"""The generic trainer: data, models, engines, the loop and the run folder."""

if __name__ != "dpigu.trainers":
    raise ImportError("import dpigu.trainers, or take what you need from dpigu")

from dpigu.trainers.calibration import calibrate
from dpigu.trainers.callbacks import Callback, CSVLogger, EarlyStopping, TensorBoardLogger
from dpigu.trainers.data.dataset import SPECS, Data, DataSpec
from dpigu.trainers.data.features.registry import with_features
from dpigu.trainers.data.loading import load_data
from dpigu.trainers.data.making import data_from
from dpigu.trainers.data.scaling import Scaling
from dpigu.trainers.data.sources import Arrays, Items, Source, Tensors
from dpigu.trainers.engines import MaterialisingEngine
from dpigu.trainers.integrations import make_private
from dpigu.trainers.lifecycle.lineage import lineage_of
from dpigu.trainers.lifecycle.public_weights import public_weights
from dpigu.trainers.lifecycle.run import Run
from dpigu.trainers.models.mixing import fix
from dpigu.trainers.models.registry import MODELS, build_model, default_model
from dpigu.trainers.phases.phase import Observer
from dpigu.trainers.recipes import Recipe, recipe_for, recipe_from_file
from dpigu.trainers.runs.load import load_run
from dpigu.trainers.session import Session
from dpigu.trainers.settings import Settings
from dpigu.trainers.step import Step
from dpigu.trainers.tasks import TASKS, Task
from dpigu.trainers.tasks.losses import cross_entropy
from dpigu.trainers.training import resume, train

__all__ = [
    "MODELS",
    "SPECS",
    "TASKS",
    "Arrays",
    "CSVLogger",
    "Callback",
    "Data",
    "DataSpec",
    "EarlyStopping",
    "Items",
    "MaterialisingEngine",
    "Observer",
    "Recipe",
    "Run",
    "Scaling",
    "Session",
    "Settings",
    "Source",
    "Step",
    "Task",
    "TensorBoardLogger",
    "Tensors",
    "build_model",
    "calibrate",
    "cross_entropy",
    "data_from",
    "default_model",
    "fix",
    "lineage_of",
    "load_data",
    "load_run",
    "make_private",
    "public_weights",
    "recipe_for",
    "recipe_from_file",
    "resume",
    "train",
    "with_features",
]
