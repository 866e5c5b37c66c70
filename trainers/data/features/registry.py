"""Fixed public features by name: each record's are computed from that record alone, and kept.

A feature map is a public constant, like the input scaling; it learns nothing. So the features
have the privacy of the records: a step on them is charged as a step on the records would be.

What is computed stays in the user's cache, in a folder that only the user may enter, as
float16: half of what is read and written, at an error (2⁻¹¹ of the value) far below the noise.
A file's name is the hash of the records, the map, its version and its library's; the file ends
in a hash of itself. It is written whole or not at all, and always read back, so that the first
run sees what all later ones see.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pooch
import torch
from dpigu.dpcore.errors import ConfigurationError, DataError, did_you_mean
from dpigu.trainers.data.dataset import Data, DataSpec
from dpigu.trainers.data.features.deskewed import DeskewedScattering, deskewed_scattering_shape
from dpigu.trainers.data.features.even import Even, even_shape
from dpigu.trainers.data.features.patches import Patches, patches_shape
from dpigu.trainers.data.features.scattering import Scattering, scattering_shape
from dpigu.trainers.data.sources import Tensors
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

BATCH = 64  # records at once, whatever the machine: few enough for the processor's cache
BLOCK = 2**24  # numbers at once when a file is read
DIGEST = 32  # bytes


@dataclass(frozen=True)
class FeatureMap:
    """A feature map by name.

    Args:
        name: in `FEATURES`.
        version: changes whenever our part in its values does, so that a cache from before is not
            taken.
        library: the package that computes it; its version counts likewise.
        model: the name of the model that goes with it.
        shape: from a record's shape, the features'; needs no library.
        build: from a record's shape, the map of B records.
        of: the map whose features this one takes in place of records, by name.
        parts: the maps whose code this one runs, by name; it is another one when they are.
    """

    name: str
    version: int
    library: str
    model: str
    shape: Callable[[tuple[int, ...]], tuple[int, ...]]
    build: Callable[[tuple[int, ...]], Callable[[Tensor], Tensor]]
    of: str | None = None
    parts: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The map, its version, its library's and its parts': what a cache is for."""
        installed = importlib.metadata.version(self.library)
        own = f"{self.name} {self.version} {self.library} {installed}"
        return ", ".join([own, *(FEATURES[part].label for part in self.parts)])


FEATURES: Mapping[str, FeatureMap] = {
    "patches": FeatureMap("patches", 5, "torch", "linear", patches_shape, Patches),
    "layered-patches": FeatureMap(
        "layered-patches",
        4,
        "torch",
        "linear",
        partial(patches_shape, layers=2),
        partial(Patches, layers=2),
    ),
    "scattering": FeatureMap(
        "scattering", 2, "kymatio", "scattering-linear", scattering_shape, Scattering
    ),
    "even-scattering": FeatureMap(
        "even-scattering", 1, "torch", "centred-linear", even_shape, Even, of="scattering"
    ),
    "deskewed-scattering": FeatureMap(
        "deskewed-scattering",
        1,
        "kymatio",
        "centred-linear",
        deskewed_scattering_shape,
        DeskewedScattering,
        parts=("scattering", "even-scattering"),
    ),
}
"""The feature maps that have a name."""


def feature_map(name: str) -> FeatureMap:
    """The feature map of that name.

    Raises: ConfigurationError if there is none.
    """
    if name not in FEATURES:
        raise ConfigurationError(
            "there is no feature map of that name",
            where="features",
            got=name,
            expected=", ".join(FEATURES),
            remedy=did_you_mean(name, FEATURES),
        )
    return FEATURES[name]


def feature_spec(spec: DataSpec, name: str) -> DataSpec:
    """What is declared about the features of records: their shape, the rest as it was."""
    features = feature_map(name)
    before = spec if features.of is None else feature_spec(spec, features.of)
    return replace(spec, name=f"{spec.name}+{name}", shape=features.shape(before.shape))


def with_features(data: Data, name: str, *, progress: bool = True) -> Data:
    """The same records with their features for inputs; declared constants stay as they are.

    Args:
        data: as loaded.
        name: a key of `FEATURES`.
        progress: show what is being computed.

    Raises: ConfigurationError for an unknown map or a library that is not there, DataError for
        records that the map does not take or a cache that cannot be written.
    """
    features, spec = feature_map(name), feature_spec(data.spec, name)
    if features.of is not None:
        data = with_features(data, features.of, progress=progress)
    train_x, test_x = (
        _cached(x, features, data.spec.name, progress) for x in (data.train_x, data.test_x)
    )
    train, test = Tensors(train_x, data.train_y), Tensors(test_x, data.test_y)
    return replace(data, spec=spec, train=train, test=test)


def cache_folder() -> Path:
    """The folder that features are kept in; only the user may enter it."""
    return Path(pooch.os_cache("dpigu")) / "features"


def _cached(x: Tensor, features: FeatureMap, data: str, progress: bool) -> Tensor:
    """The features of records: from the cache, or computed and put there. N × shape, float32."""
    shape = (len(x), *features.shape(tuple(x.shape[1:])))
    if not len(x):  # as the held-out split of public records is
        return x.new_empty(shape)
    transform = features.build(tuple(x.shape[1:]))
    key = hashlib.sha256(f"{features.label} {tuple(x.shape)} ".encode())
    key.update(x.contiguous().numpy().data)
    path = cache_folder() / f"{features.name}-{key.hexdigest()[:32]}.f16"
    if path.is_file():
        if (found := _read(path, shape)) is not None:
            return found
        Console(stderr=True).print(f"the kept {features.name} of {data} is damaged: made again")
    title = f"{features.name} of {data}" if progress else None
    try:
        _write(path, x, transform, title)
    except OSError as error:
        raise DataError(
            f"the features cannot be kept: {error}",
            where=str(path.parent),
            got=f"{2 * np.prod(shape) / 1e6:.0f} MB to write",
            remedy="Make room, or name another cache folder: XDG_CACHE_HOME.",
        ) from error
    found = _read(path, shape)
    if found is None:
        raise DataError("what was just written reads back wrong", where=str(path))
    return found


def _write(path: Path, x: Tensor, transform: Callable[[Tensor], Tensor], title: str | None) -> None:
    """Compute the features batch by batch into a file (mode 0600) that appears whole."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    digest = hashlib.blake2b(digest_size=DIGEST)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")  # mode 0600
    try:
        screen = Console(stderr=True)
        with (
            os.fdopen(handle, "wb") as file,
            Progress(console=screen, transient=True, disable=title is None) as bar,
            torch.no_grad(),
        ):
            task = bar.add_task(title or "", total=len(x))
            for x_B in torch.split(x, BATCH):
                values = transform(x_B).half().contiguous().numpy().data
                file.write(values)
                digest.update(values)
                bar.advance(task, len(x_B))
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def _read(path: Path, shape: tuple[int, ...]) -> Tensor | None:
    """The features in a file as float32, a block at a time; None if it is damaged."""
    size = int(np.prod(shape))
    if path.stat().st_size != 2 * size + DIGEST:
        return None
    features = torch.empty(size)
    digest = hashlib.blake2b(digest_size=DIGEST)
    with path.open("rb") as file:
        for block in torch.split(features, BLOCK):
            values = np.fromfile(file, np.float16, len(block))
            digest.update(values.data)
            block.copy_(torch.from_numpy(values))
        whole = file.read() == digest.digest()
    return features.view(shape) if whole else None
