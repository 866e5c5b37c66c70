"""Modules that mix records: refused before a run, and what `fix` puts in their place.

Batch normalisation mixes records in training mode and keeps their statistics un-noised; instance
normalisation keeps them when it tracks running statistics; an embedding that rescales its rows does
so by what the batch holds. None of them has a row for one record.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from dpigu.dpcore.errors import ModelError
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

GROUPS = 16
"""Groups of channels over images, as in De et al. 2022 (arXiv 2204.13650)."""
KNOWN = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)
"""What does nothing beside normalising; a subclass may do more."""


class Change(NamedTuple):
    """A module that mixed records, and what stands there now."""

    path: str
    was: str
    now: str

    def __str__(self) -> str:
        return f"{self.path}: {self.was} -> {self.now}"


def fix(model: nn.Module, groups: int = GROUPS) -> tuple[Change, ...]:
    """Replace, in place, every module that mixes records by one that normalises within a record.

    | was | becomes |
    |---|---|
    | BatchNorm2d, BatchNorm3d, SyncBatchNorm of C channels | GroupNorm(gcd(groups, C), C) |
    | BatchNorm1d | GroupNorm(1, C): over vectors a group of few numbers would say little |
    | InstanceNorm that tracks running statistics | GroupNorm(C, C): the same without them |
    | Embedding, EmbeddingBag with max_norm or scale_grad_by_freq | the same without |

    Scales and shifts are kept, running statistics are not: a trained model changes its outputs.
    What a forward method does by functions (`torch.nn.functional.batch_norm`) is not seen here; the
    trace before a run finds it.

    Args:
        groups: how many groups of channels are wanted over images.

    Returns: what was changed, a line each.

    Errors: `ModelError` for a module whose channels are not known yet, or that does more than
        normalise, and for the model itself; then nothing is changed.
    """
    if groups < 1:
        raise ModelError("the number of groups must be 1 or more", where="groups", got=groups)
    mixing = [
        (path, module)
        for path, module in model.named_modules(remove_duplicate=False)
        if mixes(module) or _rescales(module)
    ]
    made = {module: _replacement(module, path, groups) for path, module in mixing if mixes(module)}
    if model in made:
        raise _refusal(model, "", groups)
    changes = []
    for path, module in mixing:
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            was, now = _rescaling(module), f"{type(module).__name__} without"
        else:
            was, now = f"{type(module).__name__}({module.num_features})", _told(made[module])
            model.set_submodule(path, made[module])
        changes.append(Change(path or "the model", was, now))
    for _, module in mixing:
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            module.max_norm, module.scale_grad_by_freq = None, False
    return tuple(changes)


def mixes(module: nn.Module) -> bool:
    """Whether a module's output or buffers depend on the other records of a batch."""
    tracks = isinstance(module, _InstanceNorm) and module.track_running_stats
    return isinstance(module, _BatchNorm) or tracks


def refuse_mixing_modules(model: nn.Module) -> None:
    """Raise for a module whose output or buffers depend on the other records of a batch.

    Raises:
        ModelError: such a module, with the line that replaces it; or nothing to train.
    """
    for path, module in model.named_modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.max_norm is not None:
            raise ModelError(
                "it changes its own weights when a record is read, and so every other record's",
                where=path or "the model",
                got=f"{type(module).__name__} with max_norm={module.max_norm}",
                remedy="Leave max_norm out, as dpigu.fix(model) does.",
            )
        if mixes(module):
            raise _refusal(module, path, GROUPS)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError(
            "there is nothing to train: no parameter requires a gradient",
            where=type(model).__name__,
            remedy="Unfreeze one: parameter.requires_grad_(True).",
        )


def _refusal(module: nn.Module, path: str, groups: int) -> ModelError:
    """The error for a module that mixes records, with the line that replaces it."""
    replacement = _replacement(module, path, groups)
    mended = "dpigu.fix(model)" if path else f"model = torch.nn.{_told(replacement)}"
    return ModelError(
        "it keeps statistics of other records, so no record has a gradient of its own",
        where=f"module {path}" if path else "the model",
        got=type(module).__name__,
        remedy=f"Normalise within the record, by GroupNorm: {mended}.",
    )


def _replacement(module: nn.Module, path: str, groups: int) -> nn.GroupNorm:
    """The group normalisation for a module, with its scale and shift."""
    where, kind = path or "the model", type(module).__name__
    assert isinstance(module, _BatchNorm | _InstanceNorm)
    if not (channels := module.num_features):
        raise ModelError(
            "it keeps statistics of other records, and does not know its channels yet",
            where=where,
            got=kind,
            remedy="Run the model once on a made-up record, then dpigu.fix(model).",
        )
    if type(module) not in KNOWN:
        raise ModelError(
            "it keeps statistics of other records, and may do more than normalise",
            where=where,
            got=kind,
            expected="a class of torch's own",
            remedy=f"Replace it yourself: model.set_submodule({path!r}, …).",
        )
    flat = isinstance(module, nn.BatchNorm1d)
    if flat and channels == 1:
        raise ModelError(
            "one number of a record has nothing to be normalised by",
            where=where,
            got=f"{kind}(1)",
            remedy=f"Leave it out: model.set_submodule({path!r}, torch.nn.Identity()).",
        )
    if isinstance(module, _InstanceNorm):
        count = channels
    else:
        count = 1 if flat else math.gcd(groups, channels)
    made = nn.GroupNorm(count, channels, module.eps, affine=module.affine)
    if module.affine:
        made.weight, made.bias = module.weight, module.bias
    return made.train(module.training)


def _told(made: nn.GroupNorm) -> str:
    return f"GroupNorm({made.num_groups}, {made.num_channels})"


def _rescales(module: nn.Module) -> bool:
    """Whether an embedding rescales rows, or their gradients, by what a batch holds."""
    table = isinstance(module, nn.Embedding | nn.EmbeddingBag)
    return table and (module.max_norm is not None or bool(module.scale_grad_by_freq))


def _rescaling(module: nn.Embedding | nn.EmbeddingBag) -> str:
    options = f"max_norm={module.max_norm}, scale_grad_by_freq={module.scale_grad_by_freq}"
    return f"{type(module).__name__} with {options}"
