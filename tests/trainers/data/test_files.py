"""Named data arrive as their files say, from every layout, from the cache and from a mirror."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import lzma
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pooch
import pytest
import torch
from dpigu.dpcore.errors import DataError
from dpigu.trainers.data import BYTES, SPECS, Data, files, load_data
from PIL import Image

DRAW = np.random.default_rng(0)
NETWORK_OFF = partial(load_data, download=False)


def idx(array: np.ndarray) -> bytes:
    """The idx format, written independently of the reader."""
    lengths = b"".join(length.to_bytes(4, "big") for length in array.shape)
    return bytes([0, 0, 8, array.ndim]) + lengths + array.tobytes()


def image_set(count: int, side: int = 28) -> tuple[np.ndarray, np.ndarray]:
    x = DRAW.integers(0, 256, (count, side, side), dtype=np.uint8)
    return x, (np.arange(count) % 10).astype(np.uint8)


def idx_files(count: int = 7, held_out: int = 3) -> dict[str, np.ndarray]:
    (x, y), (test_x, test_y) = image_set(count), image_set(held_out)
    return {
        "train-images-idx3-ubyte": x,
        "train-labels-idx1-ubyte": y,
        "t10k-images-idx3-ubyte": test_x,
        "t10k-labels-idx1-ubyte": test_y,
    }


def write_idx(folder: Path, files: dict[str, np.ndarray], gz: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in files.items():
        if gz:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (folder / name).write_bytes(idx(array))


def assert_same(a: Data, b: Data) -> None:
    for field in ("train_x", "train_y", "test_x", "test_y"):
        assert torch.equal(getattr(a, field), getattr(b, field)), field


def test_a_neighbouring_data_set_has_the_same_spec(tmp_path: Path) -> None:
    """Adding a record changes no public constant, and is no error: a divisor must not see it."""
    files = idx_files(count=7)
    write_idx(tmp_path / "a/mnist", files)
    images, labels = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
    fewer = files | {images: files[images][:-1], labels: files[labels][:-1]}
    write_idx(tmp_path / "b/mnist", fewer)
    a, b = NETWORK_OFF("mnist", tmp_path / "a"), NETWORK_OFF("mnist", tmp_path / "b")
    assert a.spec == b.spec == SPECS["mnist"]
    assert len(a.train_x) == len(b.train_x) + 1


def test_digits_split_is_a_fixed_partition() -> None:
    """Pinned, so that no version of a library moves a record between the public splits."""
    data = load_data("digits")
    assert data.train_x.shape == (1_500, 1, 8, 8) and data.test_x.shape == (297, 1, 8, 8)
    both = torch.cat([data.train_x, data.test_x]).flatten(1)
    assert len(both.unique(dim=0)) == 1_797
    assert both.min() == -1 and both.max() == 1
    assert data.test_y[:12].tolist() == [2, 2, 9, 8, 8, 3, 6, 0, 4, 4, 7, 6]


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("mnist", "mnist"),
        ("mnist", "MNIST/raw"),
        ("fashion-mnist", "fashion-mnist"),
        ("fashion-mnist", "FashionMNIST/raw"),
    ],
)
@pytest.mark.parametrize("gz", [True, False])
def test_idx_files_load_as_written(tmp_path: Path, name: str, folder: str, gz: bool) -> None:
    files = idx_files()
    write_idx(tmp_path / folder, files, gz)
    data = NETWORK_OFF(name, tmp_path)
    x, y, test_x, test_y = files.values()
    assert torch.equal(data.train_x, BYTES.apply(x[:, None]))
    assert torch.equal(data.test_x, BYTES.apply(test_x[:, None]))
    assert data.train_y.tolist() == y.tolist() and data.test_y.tolist() == test_y.tolist()
    assert data.train_y.dtype == torch.int64


def test_the_folder_comes_from_the_environment_unless_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_idx(tmp_path / "mine/mnist", idx_files(count=5))
    write_idx(tmp_path / "other/mnist", idx_files(count=4))
    monkeypatch.setenv("DPIGU_DATA", str(tmp_path / "mine"))
    assert len(NETWORK_OFF("mnist").train_x) == 5
    assert len(NETWORK_OFF("mnist", tmp_path / "other").train_x) == 4


def packed_cifar(folder: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Write a packed JPEG file; return the images and labels that it holds, decoded one by one."""
    labels = (np.arange(count) % 10).astype(np.uint8)
    blobs, decoded = [], []
    for _ in range(count):
        stream = io.BytesIO()
        Image.fromarray(DRAW.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(stream, "JPEG")
        blobs.append(stream.getvalue())
        decoded.append(np.asarray(Image.open(stream)).transpose(2, 0, 1))
    offset = np.cumsum([0, *map(len, blobs)])
    stream = io.BytesIO()
    np.savez(stream, jpeg=np.frombuffer(b"".join(blobs), np.uint8), offset=offset, label=labels)
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_bytes(lzma.compress(stream.getvalue()))
    return np.stack(decoded), labels


def binary_cifar(x: np.ndarray, y: np.ndarray) -> bytes:
    return np.concatenate([y[:, None], x.reshape(len(x), -1)], axis=1).tobytes()


def test_both_layouts_of_cifar10_load_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache")
    x, y = packed_cifar(tmp_path / "packed/cifar-10-jpeg/train.npz.xz", 10)
    test_x, test_y = packed_cifar(tmp_path / "packed/cifar-10-jpeg/test.npz.xz", 4)
    folder = tmp_path / "binary/cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for k in range(5):
        part = slice(2 * k, 2 * k + 2)
        (folder / f"data_batch_{k + 1}.bin").write_bytes(binary_cifar(x[part], y[part]))
    (folder / "test_batch.bin").write_bytes(binary_cifar(test_x, test_y))
    binary = NETWORK_OFF("cifar10", tmp_path / "binary")
    assert torch.equal(binary.train_x, BYTES.apply(x)) and binary.train_y.tolist() == y.tolist()
    assert_same(binary, NETWORK_OFF("cifar10", tmp_path / "packed"))


def test_images_are_decoded_once_for_each_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache")
    decoded: list[Path] = []
    decode = files._decode
    monkeypatch.setattr(files, "_decode", lambda path: (decoded.append(path), decode(path))[1])
    for split in ("train", "test"):
        packed_cifar(tmp_path / f"cifar-10-jpeg/{split}.npz.xz", 3)
    first = NETWORK_OFF("cifar10", tmp_path)
    assert_same(first, NETWORK_OFF("cifar10", tmp_path))
    assert len(decoded) == 2 and len(list((tmp_path / "cache").iterdir())) == 1
    packed_cifar(tmp_path / "cifar-10-jpeg/train.npz.xz", 3)
    assert not torch.equal(NETWORK_OFF("cifar10", tmp_path).train_x, first.train_x)
    assert len(decoded) == 4


def test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    x, _ = image_set(4, side=32)
    write_idx(tmp_path / "mnist", idx_files() | {"train-images-idx3-ubyte": x})
    with pytest.raises(DataError, match=r"got \(1, 32, 32\), expected \(1, 28, 28\)"):
        NETWORK_OFF("mnist", tmp_path)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_missing_files_are_named_with_the_folder_and_the_remedy(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"downloading is off.*`data_dir` or in DPIGU") as error:
        NETWORK_OFF(name, tmp_path)
    wanted = "data_batch_" if name == "cifar10" else "{train,t10k}-{images-idx3,labels-idx1}-ubyte"
    assert str(tmp_path) in str(error.value) and wanted in str(error.value)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: b"not a gzip file",
        lambda raw: gzip.compress(gzip.decompress(raw)[:-1]),
        lambda raw: gzip.compress(b"\0\0\x0d" + gzip.decompress(raw)[3:]),
        lambda raw: gzip.compress(b"\0\0"),
        lambda raw: gzip.compress(b"\0\0\x08\x03\0\0"),
    ],
    ids=["cut gzip", "no gzip", "short body", "floats", "short magic", "short header"],
)
def test_a_damaged_idx_file_is_named(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    write_idx(tmp_path / "mnist", idx_files())
    path = tmp_path / "mnist/train-images-idx3-ubyte.gz"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz: the file cannot be read"):
        NETWORK_OFF("mnist", tmp_path)


def test_damaged_files_of_cifar10_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache")
    for split in ("train", "test"):
        packed_cifar(tmp_path / f"cifar-10-jpeg/{split}.npz.xz", 2)
    (tmp_path / "cifar-10-jpeg/test.npz.xz").write_bytes(lzma.compress(b"nothing of the kind"))
    with pytest.raises(DataError, match=r"test.npz.xz: the file cannot be read"):
        NETWORK_OFF("cifar10", tmp_path)
    (tmp_path / "cifar-10-batches-bin").mkdir()
    for name in files._BIN_FILES:
        (tmp_path / "cifar-10-batches-bin" / name).write_bytes(bytes(3074))
    with pytest.raises(DataError, match="whole number of records"):
        NETWORK_OFF("cifar10", tmp_path)


# Downloads, against a server of the test's own


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is served as the archives' address, with the checksums of what it holds."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "mirror"
    write_idx(folder, idx_files())
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name in files._BIN_FILES:
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            x, y = DRAW.integers(0, 256, (2, 3072), dtype=np.uint8), np.array([3, 9], np.uint8)
            member.size = 2 * 3073
            archive.addfile(member, io.BytesIO(binary_cifar(x, y)))
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(_Quiet, directory=str(folder))
    )
    for name, archive in files.ARCHIVES.items():
        sums = {file: hashlib.md5((folder / file).read_bytes()).hexdigest() for file in archive.md5}
        local = files._Archive(f"http://127.0.0.1:{server.server_port}/", sums, archive.members)
        monkeypatch.setitem(files.ARCHIVES, name, local)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield folder
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_missing_archives_are_downloaded_once(mirror: Path, tmp_path: Path, name: str) -> None:
    first = load_data(name, tmp_path / "data")
    assert len(first.train_x) == (10 if name == "cifar10" else 7)
    assert_same(first, NETWORK_OFF(name, tmp_path / "data"))
    assert len(list((tmp_path / "data").iterdir())) == 1, "the staging folder is left behind"


def test_a_download_with_a_wrong_checksum_leaves_nothing(mirror: Path, tmp_path: Path) -> None:
    (mirror / "t10k-labels-idx1-ubyte.gz").write_bytes(b"something else")
    with pytest.raises(DataError, match="its checksum was wrong"):
        load_data("mnist", tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_downloaded_labels_never_meet_images_that_were_there(mirror: Path, tmp_path: Path) -> None:
    """A user's images may stand in another order than the official labels."""
    write_idx(tmp_path / "mnist", {"train-images-idx3-ubyte": image_set(7)[0]})
    with pytest.raises(DataError, match="only some of the files are there"):
        load_data("mnist", tmp_path)


def test_without_a_network_the_error_says_so(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = files._Archive("http://127.0.0.1:1/", files.ARCHIVES["cifar10"].md5)
    monkeypatch.setitem(files.ARCHIVES, "cifar10", nowhere)
    with pytest.raises(DataError, match=r"the download failed \(ConnectionError\)"):
        load_data("cifar10", tmp_path / "data")


# The real files


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_real_images_load(shared_data: Path, name: str) -> None:
    data = NETWORK_OFF(name, shared_data)
    assert data.train_x.shape == (60_000, 1, 28, 28) and data.test_x.shape == (10_000, 1, 28, 28)
    assert data.train_x.min() == -1 and data.train_x.max() == 1
    smallest = {"mnist": 5_421, "fashion-mnist": 6_000}[name]  # MNIST's fives; published counts
    assert data.train_y.bincount().min() == smallest


def test_the_real_packed_images_decode(shared_data: Path) -> None:
    x, y = files._decode(shared_data / "cifar-10-jpeg/test.npz.xz")
    assert x.shape == (10_000, 3, 32, 32) and np.bincount(y).tolist() == [1_000] * 10
    blue_minus_red = (x[:, 2].mean((1, 2)) - x[:, 0].mean((1, 2))) > 0
    assert blue_minus_red[np.isin(y, (0, 8))].mean() > 0.6 > 0.4 > blue_minus_red[y == 4].mean()
