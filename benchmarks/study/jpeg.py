"""What JPEG costs a model that is not private: CIFAR-10, which came as JPEG, compressed once more.

On the same grid of blocks, a second compression at the same quality changes almost nothing. So the
pictures are padded by half a block, compressed and cut out again: a loss of the same kind, on a
grid of its own.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dpigu.trainers.data import load_data
from dpigu.trainers.data.features.registry import feature_map
from PIL import Image
from torch import Tensor

QUALITIES = (None, 75, 50)
"""Of the second compression; None is the data as it came."""
RECORDS, SCORED = 5000, 5000
PENALTIES = (0.05, 0.1, 0.2, 0.5)
"""Of ridge regression, in units of a record's squared norm."""
SHIFT = 4  # half a block
_BLOCK = 64


def cost_of_jpeg(data_dir: Path | None, features: str = "patches") -> list[dict[str, Any]]:
    """Accuracy on training records that were held back, by quality: the best of the penalties.

    No test record is read, and nothing here is private.
    """
    data = load_data("cifar10", data_dir)
    x, y = data.train_x[: RECORDS + SCORED], data.train_y[: RECORDS + SCORED]
    transform = feature_map(features).build(tuple(x.shape[1:]))
    found = []
    for quality in QUALITIES:
        again = x if quality is None else compressed(x, quality)
        rows = torch.cat([transform(x_B).flatten(1) for x_B in again.split(_BLOCK)])
        changed = float((again - x).square().mean().sqrt()) * 255 / 2
        found.append(
            {"quality": quality, "changed_by": changed, "accuracy": _ridge(rows, y, RECORDS)}
        )
    return found


def table(found: Iterable[Mapping[str, Any]]) -> str:
    """Accuracy without privacy by the quality of a second compression."""
    lines = ["| compressed once more at | moved by (RMS, of 255) | accuracy |", "|---|--:|--:|"]
    for row in found:
        quality = "not at all" if row["quality"] is None else f"quality {row['quality']}"
        lines.append(f"| {quality} | {row['changed_by']:.1f} | {row['accuracy']:.1%} |")
    return "\n".join(lines)


def compressed(x: Tensor, quality: int) -> Tensor:
    """The pictures, B × 3 × H × W in [−1, 1], through JPEG with subsampled colour."""
    padded = torch.nn.functional.pad(x, (SHIFT,) * 4, mode="replicate")
    bytes_BHWC = ((padded + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    out = np.stack([_through(picture, quality) for picture in bytes_BHWC])
    cut = torch.from_numpy(out[:, SHIFT:-SHIFT, SHIFT:-SHIFT]).permute(0, 3, 1, 2)
    return cut.float() / 127.5 - 1


def _through(picture: Any, quality: int) -> Any:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(file))


def _ridge(x: Tensor, y: Tensor, records: int) -> float:
    """Ridge regression of classes on features, from the first records, scored on the others."""
    kernel = x @ x[:records].T + 1
    targets = torch.nn.functional.one_hot(y[:records].long()).float()
    targets -= targets.mean(0)
    size = float(kernel[:records].diagonal().mean())
    scores = []
    for penalty in PENALTIES:
        ridge = kernel[:records] + penalty * size * torch.eye(records)
        said = kernel[records:] @ torch.linalg.solve(ridge, targets)
        scores.append(float((said.argmax(1) == y[records:]).float().mean()))
    return max(scores)
