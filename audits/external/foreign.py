"""A model that we did not train: weights from safetensors, records from npz, its margin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from dpigu.audits.external.tables import read_arrays
from dpigu.audits.scores import SCORES, scores_of
from dpigu.audits.statistics import Reals
from dpigu.dpcore import DataError, ModelError
from dpigu.trainers import DataSpec, Scaling, build_model
from dpigu.trainers.data import BYTES
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn


def foreign_scores(
    model: str, weights: Path, members: Path, non_members: Path, classes: int | None = None
) -> tuple[Reals, NDArray[np.int64]]:
    """The margin of every record of two files under a model, and who is a member.

    Args:
        model: module:factory, or a name of `dpigu.trainers.models.registry.MODELS`.
        weights: a safetensors file; nothing else is opened, and nothing unpickled.
        members, non_members: .npz with x (bytes, scaled to [−1, 1], or floats as they are) and
            integer y.
        classes: how many; None takes one more than the largest label of both.

    Raises: DataError or ModelError for files that are missing or do not fit, or a model that
        cannot be built or score these records.
    """
    sides = [_records(path) for path in (members, non_members)]
    (x_in, y_in), (x_out, y_out) = sides
    if x_in.shape[1:] != x_out.shape[1:] or x_in.dtype != x_out.dtype:
        raise DataError(
            "members and non-members differ in shape or type",
            where=f"{members}, {non_members}",
            got=f"{tuple(x_in.shape[1:])} {x_in.dtype}, {tuple(x_out.shape[1:])} {x_out.dtype}",
        )
    x, y = np.concatenate([x_in, x_out]), np.concatenate([y_in, y_out])
    count = classes if classes is not None else max(2, int(y.max()) + 1)
    if y.min() < 0 or y.max() >= count:
        raise DataError("a label lies outside the classes", where="y", expected=f"0…{count - 1}")
    scaling = BYTES if x.dtype == np.uint8 else Scaling()
    spec = DataSpec(members.stem, len(x_in), count, x.shape[1:], scaling)
    module = loaded(build_model(model, spec, seed=0), weights)
    in_n = np.concatenate([np.ones(len(y_in), np.int64), np.zeros(len(y_out), np.int64)])
    return _scores(module, scaling.apply(x), torch.from_numpy(y.astype(np.int64)), model), in_n


def _records(path: Path) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    arrays = read_arrays(path, ("x", "y"))
    x, y = arrays["x"], arrays["y"]
    if x.ndim < 2 or (x.dtype != np.uint8 and x.dtype.kind != "f"):
        raise DataError("x must be bytes or floats, one record a row", where=str(path))
    if y.ndim != 1 or y.dtype.kind not in "iu" or len(x) != len(y) or not len(y):
        raise DataError("y must be one integer for each record of x", where=str(path))
    return x, y


def loaded(module: nn.Module, weights: Path) -> nn.Module:
    """The module with the weights of a safetensors file, in evaluation mode.

    Raises: DataError for another file, ModelError where they do not fit.
    """
    try:
        module.load_state_dict(load_file(weights))
    except FileNotFoundError as error:
        raise DataError("there is no such file", where=str(weights)) from error
    except (OSError, SafetensorError) as error:
        raise DataError(
            "the weights are no safetensors file",
            where=str(weights),
            remedy="Pickled weights are never loaded: save them with safetensors.torch.save_file.",
        ) from error
    except RuntimeError as error:
        raise ModelError(
            "the weights do not fit the model",
            where=str(weights),
            got=str(error).splitlines()[-1].strip(),
        ) from error
    return module.eval()


def _scores(module: nn.Module, x: Tensor, y: Tensor, name: str) -> Reals:
    try:
        scores: Reals = scores_of(SCORES["margin"], module, x, y).numpy()
    except (RuntimeError, IndexError) as error:  # what torch raises where shapes do not meet
        raise ModelError(
            f"the model cannot score these records: {str(error).splitlines()[0]}", where=name
        ) from error
    return scores
