"""A model that we did not train: weights from safetensors, records from npz, a score of each."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import torch
from dpigu.audits.external.records import Records
from dpigu.audits.external.tabular import SKOPS, tabular_scores
from dpigu.audits.scores import SCORES
from dpigu.audits.statistics import Reals
from dpigu.dpcore import DataError, ModelError
from dpigu.trainers import DataSpec, build_model
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

HUGGINGFACE = "huggingface:"
BATCH = 500


def foreign_scores(
    model: str,
    weights: Path | None,
    members: Path,
    non_members: Path,
    classes: int | None = None,
    signal: str = "margin",
) -> tuple[Reals, NDArray[np.int64]]:
    """A score of every record of two files under a model, and who is a member.

    Args:
        model: module:factory, a name of `dpigu.trainers.models.registry.MODELS`, a .skops file of
            scikit-learn, or huggingface:FOLDER, a causal language model in safetensors; its code
            is never run.
        weights: a safetensors file; nothing is ever unpickled.
        members, non_members: .npz with x (bytes, scaled to [−1, 1], floats, or integers as tokens)
            or x.NAME for each input of a model that takes several by name; and y: integers, one a
            record, or one a token and −100 for none; floats for the squared error. Without y, x
            are tokens, each of which is foretold from those before.
        classes: how many; None takes one more than the largest label of both.
        signal: a name in `dpigu.audits.scores.SCORES`.

    Raises: DataError or ModelError for files that are missing or do not fit, or a model that
        cannot be built or score these records.
    """
    inside, outside = (Records.read(path, signal) for path in (members, non_members))
    if inside.form != outside.form:
        raise DataError(
            "members and non-members differ in shape or type",
            where=f"{members}, {non_members}",
            got=f"{inside.form}, {outside.form}",
        )
    both = inside.and_(outside)
    in_n = np.concatenate([np.ones(inside.count, np.int64), np.zeros(outside.count, np.int64)])
    if model.endswith(SKOPS):
        return tabular_scores(Path(model), both, signal), in_n
    module = _built(model, weights, both.spec(members.stem, classes, signal))
    return _scores(module, both, signal, model), in_n


def _built(model: str, weights: Path | None, spec: DataSpec) -> nn.Module:
    if model.startswith(HUGGINGFACE):
        return _language_model(Path(model.removeprefix(HUGGINGFACE)))
    module = build_model(model, spec, seed=0)
    if weights is None:
        raise DataError("a model needs weights", where=model, remedy="Give a safetensors file.")
    return loaded(module, weights)


def _language_model(folder: Path) -> nn.Module:
    """A causal language model of a folder, by its own configuration and safetensors alone."""
    try:
        transformers = importlib.import_module("transformers")
    except ImportError as error:
        raise ModelError(
            "language models need transformers", remedy="Install the extra: dpigu[hf]."
        ) from error
    try:
        found = transformers.AutoModelForCausalLM.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(
            f"no language model in safetensors: {str(error).splitlines()[0]}", where=str(folder)
        ) from error
    return _Logits(found.eval())


class _Logits(nn.Module):
    """A language model that gives its logits as they are."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=x, use_cache=False).logits
        return logits


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


@torch.no_grad()
def _scores(module: nn.Module, records: Records, signal: str, name: str) -> Reals:
    score, found = SCORES[signal], []
    try:
        for inputs, y in records.batches(BATCH):
            outputs = module(**inputs) if records.named else module(inputs["x"])
            if records.next_token:
                outputs, y = outputs[:, :-1], y[:, 1:]
            found.append(score(outputs.double(), y))
    except (RuntimeError, IndexError, TypeError) as error:  # torch's, where shapes do not meet
        raise ModelError(
            f"the model cannot score these records: {str(error).splitlines()[0]}", where=name
        ) from error
    scores: Reals = torch.cat(found).numpy()
    return scores
