"""A run from a folder: the model back, ready to predict, and what it claims."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from dpigu.dpcore import RunError
from dpigu.trainers.code import names_code
from dpigu.trainers.data.dataset import Data
from dpigu.trainers.data.declared import spec_from
from dpigu.trainers.lifecycle.lineage import Ancestor, remember
from dpigu.trainers.lifecycle.run import Run
from dpigu.trainers.models.registry import MODELS, build_model
from dpigu.trainers.recipes.from_file import recipe_from_dict
from dpigu.trainers.runs import disk
from dpigu.trainers.runs.folder import RunFolder
from dpigu.trainers.runs.weights import MODEL, unpacked
from safetensors import SafetensorError
from torch import nn


def load_run(path: Path | str, model: nn.Module | None = None, *, trust_code: bool = False) -> Run:
    """A finished run: its model with the trained weights, in evaluation mode, and its summary.

    Args:
        path: the run folder.
        model: the untrained module, where the run used one that has no name to build it by.
        trust_code: import a model that the folder names as `module:factory`; whoever wrote the
            folder then chooses what code runs.
    """
    folder = RunFolder.existing(Path(path))
    summary = folder.summary()
    if model is None:
        model = named_model(folder, folder.configuration(), trust_code)
    weights = folder.public / MODEL
    try:
        model.load_state_dict(unpacked(disk.read(weights), model))
    except SafetensorError as error:
        raise RunError(f"the weights cannot be read: {error}", where=str(weights)) from error
    except RuntimeError as error:
        raise RunError(
            "the trained weights do not fit the model",
            where=str(weights),
            got=str(error).splitlines()[-1].strip(),
        ) from error
    table, ledger = folder.configuration(), folder.ledger()
    earlier = (Ancestor.from_dict(ancestor) for ancestor in table.get("lineage", ()))
    remember(model, (*earlier, Ancestor.of(ledger, table["data"]["name"])))
    return Run(model.eval().to(torch.device("cpu")), summary, folder.path)


def named_model(folder: RunFolder, table: Mapping[str, Any], trust_code: bool) -> nn.Module:
    """The untrained model that a run's configuration names.

    Raises: RunError for a name that says nothing, or one that names code without `trust_code`.
    """
    name = table["model"]["name"]
    if name not in MODELS and not names_code(name):
        raise RunError(
            "the run's model has no name to build it by",
            where=str(folder.path),
            got=name,
            remedy="Give the untrained module: model=….",
        )
    refuse_code(folder, "model", name, trust_code)
    return build_model(name, spec_from(table["data"]), table["settings"].get("seed", 0))


def load_run_data(
    folder: RunFolder, data_dir: Path | None = None, *, trust_code: bool = False
) -> Data:
    """The run's records as its model was given them: scaled, and through its features, if any.

    Raises: RunError for records that the folder's code makes, without `trust_code`.
    """
    recipe = recipe_from_dict(folder.configuration(), str(folder.path)).located(folder.private)
    refuse_code(folder, "data", recipe.data, trust_code)
    return recipe.load_data(data_dir)


def refuse_code(folder: RunFolder, what: str, name: str, trust_code: bool) -> None:
    """An error for a name that means code which somebody else may have chosen."""
    if names_code(name) and not trust_code:
        raise RunError(
            f"the run's {what} is code that the folder names, and that is not run without your "
            "word",
            where=str(folder.path),
            got=name,
            remedy="If you trust whoever made the folder: set `trust_code`.",
        )
