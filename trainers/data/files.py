"""Where the named data sets come from: files in a folder, official archives, decoded images.

A reader takes the folder and whether it may download, and returns the four arrays as stored.
Files that a user put there are read as they are; only downloads are checked against a checksum.
"""

from __future__ import annotations

import gzip
import io
import lzma
import math
import os
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pooch
from dpigu.dpcore.errors import DataError
from numpy.typing import NDArray

Array = NDArray[np.generic]
Bytes = NDArray[np.uint8]


class Arrays(NamedTuple):
    """A data set as stored: x (N × shape) before scaling, y (N), for both splits."""

    train_x: Array
    train_y: Array
    test_x: Array
    test_y: Array


@dataclass(frozen=True)
class _Archive:
    """Official files: url + file name, the published md5, and the members of a tar file."""

    url: str
    md5: Mapping[str, str]
    members: tuple[str, ...] = ()


_IDX_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
_BIN_FILES = (*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin")
_BIN_FOLDER = "cifar-10-batches-bin"

ARCHIVES: dict[str, _Archive] = {
    "mnist": _Archive(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        {
            _IDX_FILES[0]: "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            _IDX_FILES[1]: "d53e105ee54ea40749a09fcbcd1e9432",
            _IDX_FILES[2]: "9fb629c4189551a2d022fa330f9573f3",
            _IDX_FILES[3]: "ec29112dd5afa0611ce80d1b7f02629c",
        },
    ),
    "fashion-mnist": _Archive(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        {
            _IDX_FILES[0]: "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            _IDX_FILES[1]: "25c81989df183df01b3e8a0aad5dffbe",
            _IDX_FILES[2]: "bef4ecab320f06d8554ea6380940ec79",
            _IDX_FILES[3]: "bb300cfdad3c16e7a12a480ee83cd310",
        },
    ),
    "cifar10": _Archive(
        "https://www.cs.toronto.edu/~kriz/",
        {"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"},
        tuple(f"{_BIN_FOLDER}/{file}" for file in _BIN_FILES),
    ),
}
"""Official archives; the checksums are the ones that their authors publish."""


def data_folder(data_dir: Path | None = None) -> Path:
    """Return the folder that data is looked for in: the argument, `DPIGU_DATA` or the cache."""
    if data_dir is not None:
        return Path(data_dir).expanduser()
    if named := os.environ.get("DPIGU_DATA"):
        return Path(named).expanduser()
    return Path(pooch.os_cache("dpigu")) / "data"


def _read_digits(root: Path, download: bool) -> Arrays:
    """Return scikit-learn's 1,797 digits, the first 1,500 of a fixed permutation for training."""
    from sklearn.datasets import load_digits  # a second to import, for this data set only

    bunch = load_digits()
    x, y = bunch.images[:, None], bunch.target
    # numpy promises that RandomState's stream never changes, so the split is the same everywhere.
    train, test = np.split(np.random.RandomState(0).permutation(len(x)), [1_500])
    return Arrays(x[train], y[train], x[test], y[test])


def _read_idx_set(root: Path, download: bool, *, name: str, folders: Sequence[str]) -> Arrays:
    """Return the four idx files, gzipped or not, from the first folder that holds any of them."""

    def found(folder: str, file: str) -> Path | None:
        paths = (root / folder / file, root / folder / file.removesuffix(".gz"))
        return next((path for path in paths if path.is_file()), None)

    def present() -> list[Path | None]:
        tried = ([found(folder, file) for file in _IDX_FILES] for folder in folders)
        return next((paths for paths in tried if any(paths)), [])

    wanted = "{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz in " + " or ".join(folders)
    if not (paths := present()):
        _fetch(name, root, folders[0], wanted, download)
        paths = present()
    complete = [path for path in paths if path is not None]
    if len(complete) < len(_IDX_FILES):
        raise _missing(name, root, wanted, "only some of the files are there")
    images, labels, test_images, test_labels = map(_read_idx, complete)
    return Arrays(images[:, None], labels, test_images[:, None], test_labels)


def _read_idx(path: Path) -> Bytes:
    """Return an idx file of bytes: 0, 0, 8, the number of axes, their lengths (big-endian u4)."""
    raw = _read_bytes(path)
    axes = raw[3] if len(raw) > 3 and raw[:3] == b"\0\0\x08" else 0
    start = 4 + 4 * axes
    if not axes or len(raw) < start:
        raise unreadable(path, "it is not an idx file of bytes")
    shape = [int(length) for length in np.frombuffer(raw, ">u4", axes, offset=4)]
    if len(raw) - start != math.prod(shape):
        raise unreadable(path, "it is cut short or too long")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def _read_cifar10(root: Path, download: bool) -> Arrays:
    """Return CIFAR-10 from the official binary files, or else from the packed JPEG ones."""
    wanted = (
        f"{_BIN_FOLDER}/data_batch_{{1…5}}.bin and test_batch.bin, "
        "or cifar-10-jpeg/{train,test}.npz.xz (the pickled layout is never read)"
    )
    packed = [root / "cifar-10-jpeg" / f"{split}.npz.xz" for split in ("train", "test")]
    binary = [root / _BIN_FOLDER / file for file in _BIN_FILES]
    if not any(path.is_file() for path in binary):
        if all(path.is_file() for path in packed):
            return _read_packed(*packed)
        _fetch("cifar10", root, _BIN_FOLDER, wanted, download)
    if not all(path.is_file() for path in binary):
        raise _missing("cifar10", root, wanted, "only some of the files are there")
    *train, (test_x, test_y) = map(_read_bin, binary)
    train_x, train_y = (np.concatenate(part) for part in zip(*train, strict=True))
    return Arrays(train_x, train_y, test_x, test_y)


def _read_bin(path: Path) -> tuple[Bytes, Bytes]:
    """Return images (N × 3 × 32 × 32) and labels; a record is a label byte and 3,072 pixels."""
    raw = np.frombuffer(_read_bytes(path), np.uint8)
    if raw.size % 3073:
        raise unreadable(path, "it is not a whole number of records of 3,073 bytes")
    table = raw.reshape(-1, 3073)
    return table[:, 1:].reshape(-1, 3, 32, 32), table[:, 0]


def _read_packed(train: Path, test: Path) -> Arrays:
    """Return the packed JPEG images; they are decoded once and kept in the user's cache."""
    key = "-".join(pooch.file_hash(str(path), alg="sha256")[:12] for path in (train, test))
    cache = Path(pooch.os_cache("dpigu")) / f"cifar10-{key}.npz"
    if cache.is_file():
        with np.load(cache, allow_pickle=False) as stored:
            return Arrays(*(stored[name] for name in Arrays._fields))
    arrays = Arrays(*_decode(train), *_decode(test))
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache.parent) as staging:
            part = Path(staging) / cache.name
            np.savez(part, **arrays._asdict())
            part.replace(cache)
    except OSError as error:
        warnings.warn(f"the decoded images are not kept: {error}", stacklevel=2)
    return arrays


def _decode(path: Path) -> tuple[Bytes, Array]:
    """Return images (N × 3 × 32 × 32) and labels of a packed file: jpeg, offset, label."""
    from PIL import Image  # here, so that the other data sets do not wait for it
    from rich.console import Console
    from rich.progress import track

    try:
        with np.load(io.BytesIO(lzma.decompress(path.read_bytes())), allow_pickle=False) as stored:
            jpeg, offset, label = stored["jpeg"].tobytes(), stored["offset"], stored["label"]
        x = np.empty((len(offset) - 1, 3, 32, 32), np.uint8)
        screen = Console(stderr=True)
        for i in track(range(len(x)), f"decoding {path.name}", console=screen, transient=True):
            image = Image.open(io.BytesIO(jpeg[offset[i] : offset[i + 1]])).convert("RGB")
            x[i] = np.asarray(image).transpose(2, 0, 1)
    except (OSError, ValueError, KeyError, EOFError, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise unreadable(path) from error
    return x, label


def _fetch(name: str, root: Path, folder: str, wanted: str, download: bool) -> None:
    """Download an official archive into root/folder: all of it with its checksums, or nothing.

    Files move into place only when all of them are there, so that images which a user put there
    never meet downloaded labels in another order.
    """
    if not download:
        raise _missing(name, root, wanted, "the files are not there, and downloading is off")
    archive = ARCHIVES[name]
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root) as staging:
            for file, md5 in archive.md5.items():
                pooch.retrieve(
                    archive.url + file,
                    f"md5:{md5}",
                    fname=file,
                    path=staging,
                    downloader=pooch.HTTPDownloader(timeout=30),
                    processor=pooch.Untar(list(archive.members), ".") if archive.members else None,
                )
            (root / folder).mkdir(parents=True, exist_ok=True)
            for file in archive.members or archive.md5:
                (Path(staging) / file).replace(root / folder / Path(file).name)
    except (OSError, ValueError) as error:
        why = "its checksum was wrong" if isinstance(error, ValueError) else type(error).__name__
        problem = f"the files are not there, and the download failed ({why})"
        raise _missing(name, root, wanted, problem) from error


def _read_bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path) from error


def _missing(name: str, root: Path, wanted: str, problem: str) -> DataError:
    return DataError(
        f"{name}: {problem}",
        where=str(root),
        expected=wanted,
        remedy="Name the folder that holds them as `data_dir` or in DPIGU_DATA.",
    )


def unreadable(path: Path, why: str = "it is damaged or of another kind") -> DataError:
    """Return the error for a file that is there and cannot be read."""
    return DataError(f"the file cannot be read: {why}", where=str(path))


READERS: Mapping[str, Callable[[Path, bool], Arrays]] = {
    "digits": _read_digits,
    "mnist": partial(_read_idx_set, name="mnist", folders=("mnist", "MNIST/raw")),
    "fashion-mnist": partial(
        _read_idx_set, name="fashion-mnist", folders=("fashion-mnist", "FashionMNIST/raw")
    ),
    "cifar10": _read_cifar10,
}
"""How each named data set is read: (folder, may download) → arrays."""
