"""Weights that a run starts from and that somebody declares public: which, from where, whose word.

Nothing can check that no record of the run, and of nobody else's private data, made them: it is
declared, and the run's statement says by whom. What can be checked is that they are still those
that were declared.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from dpigu.dpcore import DataError, RunError
from dpigu.trainers.lifecycle.lineage import lineage_of
from safetensors.torch import load as safe_load
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class PublicWeights:
    """What is said of the weights that a run starts from.

    Args:
        name: what they are called.
        source: where they are from: an address, a paper, a program that made them.
        declared_by: who says that they are public.
        sha256: of the file that was named or, without one, of the tensors, in hexadecimal.
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
    model: nn.Module,
    *,
    name: str,
    source: str,
    declared_by: str,
    file: Path | str | None = None,
    sha256: str | None = None,
) -> PublicWeights:
    """Declare that the weights a model has now are public; runs from it say so.

    They are neither protected nor charged. The statement and `dpigu explain` of a run that starts
    from them have name, source, checksum and who declared it.

    Args:
        model: with its weights; a new head, drawn from a public seed, belongs to it already.
        name, source, declared_by: what to say of them.
        file: where the weights were read from, if its checksum is the one to say: tensors by
            name, of safetensors or of `torch.save`. The model has every one of them, to the bit in
            its own precision; what the file does not name, as a new head, no checksum covers.
        sha256: the checksum as it was published, of the file or, without one, of the tensors.

    Errors: `DataError` where nothing is said, the file cannot be read, its tensors are not the
    model's or the checksum is another; `RunError` for weights that are known to come from a
    private run.
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
    now = _sha_of(_tensors(model))
    found = now if file is None else _sha_of_file(Path(file), model)
    if sha256 is not None and sha256.strip().lower() != found:
        raise DataError(
            "the checksum is not the one that was published",
            where=str(file) if file is not None else type(model).__name__,
            got=found,
            expected=sha256,
            remedy="Fetch the file again, or declare the weights that you have.",
        )
    weights = PublicWeights(**told, sha256=found)
    _declared[model] = weights, now
    return weights


def declared_public(model: nn.Module) -> PublicWeights | None:
    """What was declared of a model's weights, if anything was.

    Errors: `RunError` if they have changed since, and no run that is known has changed them.
    """
    if model not in _declared:
        return None
    weights, declared = _declared[model]
    if not lineage_of(model) and _sha_of(_tensors(model)) != declared:
        raise RunError(
            "the weights have changed since they were declared public",
            where=type(model).__name__,
            got=weights.name,
            remedy="Call public_weights when the model is as the run is to start from it.",
        )
    return weights


def _tensors(model: nn.Module, *, every_name: bool = False) -> dict[str, Tensor]:
    """All parameters and buffers; a tied one under its first name, or under all."""
    once = not every_name
    parameters = model.named_parameters(remove_duplicate=once)
    return dict((*parameters, *model.named_buffers(remove_duplicate=once)))


@torch.no_grad()
def _sha_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the names and bytes of tensors, in the order of their names."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        whole = tensor.detach().cpu().contiguous().reshape(-1)
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        found.update(whole.view(torch.uint8).numpy().data)
    return found.hexdigest()


def _sha_of_file(path: Path, model: nn.Module) -> str:
    """SHA-256 of a file whose tensors the model has."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error
    stored, has = _stored(data, path), _tensors(model, every_name=True)
    both = sorted(stored.keys() & has.keys())
    alike = {name: stored[name].to(has[name].dtype) for name in both}
    got, expected = _sha_of({name: has[name] for name in both}), _sha_of(alike)
    if not stored or len(both) < len(stored) or got != expected:
        raise DataError(
            "the model's weights are not those of the file",
            where=f"{type(model).__name__} and {path}",
            got=f"SHA-256 {got} of {len(both)} of the file's {len(stored)} tensors by name",
            expected=f"{expected} of all {len(stored)}, and at least one",
            remedy="Load the file into the model before, or leave `file` out: the checksum is then "
            "that of the tensors.",
        )
    return hashlib.sha256(data).hexdigest()


def _stored(data: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors of a file by their names."""
    try:
        if path.suffix == ".safetensors":
            return safe_load(data)
        found = dict(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))
    except Exception as error:  # what torch raises for other files is not said anywhere
        raise DataError(
            "this is no file of weights",
            where=str(path),
            expected="tensors by name, of safetensors or of torch.save",
            remedy="Name such a file, or leave `file` out: the checksum is then of the tensors.",
        ) from error
    return {name: t for name, t in found.items() if isinstance(t, Tensor)}
