"""Weights that a run starts from and that somebody declares public: which, from where, whose word.

Nothing can check that no record of the run, and of nobody else's private data, made them: it is
declared, and the run's statement says by whom. What can be checked is that they are still those
that were declared.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from dpigu.dpcore import DataError, RunError
from dpigu.trainers.lifecycle.lineage import lineage_of
from torch import nn


@dataclass(frozen=True, kw_only=True)
class PublicWeights:
    """What is said of the weights that a run starts from.

    Args:
        name: what they are called.
        source: where they are from: an address, a paper, a program that made them.
        declared_by: who says that they are public.
        sha256: of the file that was named or, without one, of the tensors, in hexadecimal; that
            the tensors are the file's is the word of who declares it.
    """

    name: str
    source: str
    declared_by: str
    sha256: str

    def to_dict(self) -> dict[str, str]:
        """As plain data."""
        return asdict(self)


_declared: WeakKeyDictionary[nn.Module, tuple[PublicWeights, str]] = WeakKeyDictionary()


def public_weights(
    model: nn.Module, *, name: str, source: str, declared_by: str, file: Path | str | None = None
) -> PublicWeights:
    """Declare that the weights a model has now are public; runs from it say so.

    They are neither protected nor charged. The statement and `dpigu explain` of a run that starts
    from them have name, source, checksum and who declared it.

    Args:
        model: with its weights; a new head, drawn from a public seed, belongs to it already.
        name, source, declared_by: what to say of them.
        file: where the weights were read from, if its checksum is the one to say.

    Errors: `DataError` where nothing is said or the file cannot be read; `RunError` for weights
    that are known to come from a private run.
    """
    told = {"name": name, "source": source, "declared_by": declared_by}
    for key, value in told.items():
        if not value.strip():
            raise DataError("a declaration says this in words", where=f"public_weights.{key}")
    if lineage := lineage_of(model):
        raise RunError(
            "these weights come from a run on records that it protects",
            where=type(model).__name__,
            got=f"run {lineage[0].run[:12]} on {lineage[0].data}",
            remedy="Train from them without a declaration: the statement names that run.",
        )
    now = _sha_of_tensors(model)
    weights = PublicWeights(**told, sha256=now if file is None else _sha(file))
    _declared[model] = weights, now
    return weights


def declared_public(model: nn.Module) -> PublicWeights | None:
    """What was declared of a model's weights, if anything was.

    Errors: `RunError` if they have changed since, and no run that is known has changed them.
    """
    if model not in _declared:
        return None
    weights, declared = _declared[model]
    if not lineage_of(model) and _sha_of_tensors(model) != declared:
        raise RunError(
            "the weights have changed since they were declared public",
            where=type(model).__name__,
            got=weights.name,
            remedy="Call public_weights when the model is as the run is to start from it.",
        )
    return weights


@torch.no_grad()
def _sha_of_tensors(model: nn.Module) -> str:
    """SHA-256 of the names and bytes of all parameters and buffers, in the order of their names."""
    found = hashlib.sha256()
    for name, tensor in sorted((*model.named_parameters(), *model.named_buffers())):
        whole = tensor.detach().cpu().contiguous().reshape(-1)
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        found.update(whole.view(torch.uint8).numpy().data)
    return found.hexdigest()


def _sha(file: Path | str) -> str:
    try:
        with Path(file).open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(file)) from error
