"""Folders of images, a subfolder a class: read when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from dpigu.dpcore.errors import DataError
from numpy.typing import NDArray
from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff")


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """The images under `folder/class/…`, as bytes with channels first, and their class.

    Args:
        paths: of the images, in the order of their names.
        labels: the class of each.
        size: width and height that images are brought to.
        mode: L for grey, RGB for colour.
    """

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    size: tuple[int, int]
    mode: str

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[NDArray[np.uint8], int]:
        with Image.open(self.paths[i]) as image:
            fitting = image.convert(self.mode)
        if fitting.size != self.size:
            fitting = fitting.resize(self.size, Image.Resampling.BILINEAR)
        pixels = np.asarray(fitting, dtype=np.uint8)
        channels_first = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0)
        return np.ascontiguousarray(channels_first), self.labels[i]


def image_folders(train: Path, test: Path, classes: int | None) -> tuple[ImageFolder, ImageFolder]:
    """Both splits. Classes, size and colour are those of the held-out folder, which is public.

    Errors: `DataError` for a folder without images, for another number of classes than declared,
    and for a class of the training folder that the held-out one lacks.
    """
    names = sorted(p.name for p in test.iterdir() if p.is_dir())
    found = [_found(folder, names) for folder in (test, train)]
    if classes is not None and classes != len(names):
        raise DataError(
            "the held-out folder has another number of classes than declared",
            where=str(test),
            got=len(names),
            expected=classes,
        )
    first = found[0][0][0]
    with Image.open(first) as image:
        size, mode = image.size, "L" if image.mode in ("1", "L", "I;16") else "RGB"
    held_out, private = (ImageFolder(*split, size, mode) for split in found)
    return private, held_out


def _found(folder: Path, names: list[str]) -> tuple[tuple[Path, ...], tuple[int, ...]]:
    if not folder.is_dir():
        raise DataError("there is no such folder of images", where=str(folder))
    strangers = {p.name for p in folder.iterdir() if p.is_dir()} - set(names)
    if strangers:
        raise DataError(
            "a folder has a class that the held-out one lacks",
            where=str(folder),
            expected=", ".join(names),
            remedy="The classes are public: let every one have a held-out image.",
        )
    pairs = [
        (path, label)
        for label, name in enumerate(names)
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in SUFFIXES
    ]
    if not pairs:
        raise DataError(
            "there is no image in the folder",
            where=str(folder),
            expected=f"folder/class/file, ending in {', '.join(SUFFIXES)}",
        )
    paths, labels = zip(*pairs, strict=True)
    return paths, labels
