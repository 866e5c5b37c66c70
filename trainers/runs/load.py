"""A run from a folder: the model back, ready to predict, and what it claims."""

from __future__ import annotations

from pathlib import Path

import torch
from dpigu.dpcore import RunError
from dpigu.trainers.data.dataset import Data, DataSpec, Scaling, load_data
from dpigu.trainers.data.features import with_features
from dpigu.trainers.models.registry import MODELS, build_model
from dpigu.trainers.runs.folder import RunFolder
from dpigu.trainers.training import Run
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn


def load_run(path: Path | str, model: nn.Module | None = None) -> Run:
    """A finished run: its model with the trained weights, in evaluation mode, and its summary.

    Args:
        path: the run folder.
        model: the untrained module, where the run used one that has no name to build it by.
    """
    folder = RunFolder.existing(Path(path))
    summary = folder.summary()
    if model is None:
        name = folder.configuration()["model"]["name"]
        if name not in MODELS and ":" not in name:
            raise RunError(
                "the run's model has no name to build it by",
                where=str(path),
                got=name,
                remedy="Give the untrained module: load_run(path, model=...).",
            )
        model = build_model(name, spec_of(folder), seed=0)
    weights = folder.public / "model.safetensors"
    try:
        model.load_state_dict(load_file(weights))
    except (OSError, SafetensorError) as error:
        raise RunError(f"the weights cannot be read: {error}", where=str(weights)) from error
    except RuntimeError as error:
        raise RunError(
            "the trained weights do not fit the model",
            where=str(weights),
            got=str(error).splitlines()[-1].strip(),
        ) from error
    return Run(model.eval().to(torch.device("cpu")), summary, folder.path)


def load_run_data(folder: RunFolder, data_dir: Path | None = None) -> Data:
    """The run's records as its model was given them: scaled, and through its features, if any."""
    named = folder.configuration()["data"]
    data = load_data(named["name"], data_dir, named["records"], named["classes"])
    return with_features(data, named["features"]) if "features" in named else data


def spec_of(folder: RunFolder) -> DataSpec:
    """The declared constants of the run's data."""
    data = folder.configuration()["data"]
    scaling = Scaling(**data["scaling"])
    return DataSpec(data["name"], data["records"], data["classes"], tuple(data["shape"]), scaling)
