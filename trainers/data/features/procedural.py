"""Public records made by a program, from no data set and no person, the same on every machine."""

from __future__ import annotations

from dataclasses import replace

import torch
from dpigu.dpcore.errors import DataError
from dpigu.trainers.data.dataset import Data, DataSpec
from dpigu.trainers.data.sources import Tensors, is_shape
from dpigu.trainers.tasks import CLASSIFICATION
from torch import Tensor
from torch.nn import functional as F

RECORDS = 2048
PROCEDURAL = "procedural"
"""The name of this public data."""


def procedural(spec: DataSpec) -> Data:
    """Made-up records of a shape: a smooth pattern for each class, and noise around it.

    x = clamp(pattern_y + noise, −1, 1), both of random numbers; for images of rising smoothness

    Args:
        spec: the shape and the classes that the records must have.

    They know nothing of the private data but its declared constants. What a gradient of such
    records says about a gradient of real ones is little; it is never private.
    """
    if spec.task != CLASSIFICATION or not is_shape(spec.shape) or spec.classes is None:
        raise DataError(
            "procedural records are for classification with one tensor a record",
            where=PROCEDURAL,
            got=f"the task {spec.task}",
            remedy="Give public records of your own.",
        )
    draw = torch.Generator().manual_seed(0)
    patterns = _smooth(torch.randn((spec.classes, *spec.shape), generator=draw))
    y = torch.randint(spec.classes, (RECORDS,), generator=draw)
    noise = _smooth(torch.randn((RECORDS, *spec.shape), generator=draw))
    x = (patterns[y] + 0.5 * noise).clamp(-1, 1)
    made = replace(spec, name=PROCEDURAL, records=RECORDS, unit=None)
    return Data(made, Tensors(x, y), Tensors(x[:1], y[:1]))


def _smooth(x: Tensor) -> Tensor:
    """Images averaged over 3 × 3 pixels and brought back to unit spread; vectors as they are."""
    if x.dim() != 4 or min(x.shape[-2:]) < 3:
        return x
    x = F.avg_pool2d(x, 3, stride=1, padding=1)
    return x / x.std().clamp(min=1e-6)
