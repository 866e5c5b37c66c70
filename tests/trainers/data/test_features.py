"""Scattering is Kymatio's, record by record; what is kept is whole and private."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from dpigu.dpcore import ConfigurationError, DataError
from dpigu.trainers.data import Data, DataSpec, Scaling, Tensors
from dpigu.trainers.data.features.registry import cache_folder, feature_spec, with_features
from dpigu.trainers.data.features.scattering import Scattering, scattering_shape
from torch import Tensor

KYMATIO = """
    -0.01136 0.13692 0.10269 0.12865 0.08471 0.02993 0.01373 0.05054 0.14434
    0.11866 0.09964 0.14786 0.06366 0.01657 0.01117 0.02216 0.13822 0.00878
    0.00968 0.00684 0.00676 0.01254 0.01582 0.00784 0.00617 0.00721 0.00852
    0.00844 0.00737 0.01031 0.01468 0.00877 0.00692 0.00779 0.00935 0.00853
    0.00618 0.00612 0.01008 0.00877 0.00729 0.00313 0.00248 0.00484 0.00774
    0.00966 0.01059 0.00852 0.00566 0.00189 0.00342 0.00405 0.00389 0.00403
    0.00398 0.00280 0.00146 0.00303 0.00270 0.00239 0.00182 0.00207 0.00311
    0.00171 0.00218 0.00281 0.00328 0.00387 0.00316 0.00320 0.00372 0.00275
    0.00278 0.00907 0.00787 0.00445 0.00357 0.00676 0.00679 0.01024 0.00971
"""
"""ScatteringTorch2D(J=2, shape=(12, 16), L=8) of Kymatio 0.3.0 for `image`, at position (1, 2)."""


def image() -> Tensor:
    i, j = torch.arange(12.0)[:, None], torch.arange(16.0)
    return ((torch.sin(i * j / 7) + torch.cos(i / 3 + j * j / 11)) / 2)[None]


def images(count: int, shape: tuple[int, ...] = (1, 8, 8)) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(3)) * 2 - 1


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Data:
    """Ninety images, and a cache folder of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    x, y = images(90), torch.arange(90) % 3
    spec = DataSpec("noise", 70, 3, (1, 8, 8), Scaling(255, 0.5, 0.5))
    return Data(spec, Tensors(x[:70], y[:70]), Tensors(x[70:], y[70:]))


def refuse(*_: object) -> NoReturn:
    raise AssertionError("computed once more")


@pytest.mark.numerical
def test_scattering_is_what_it_was() -> None:
    """Features of another Kymatio that differ would change every published number."""
    got = Scattering((1, 12, 16))(image()[None])[0, :, 1, 2]
    want = torch.tensor([float(word) for word in KYMATIO.split()])
    torch.testing.assert_close(got, want, rtol=0, atol=6e-6)


def test_scattering_is_bound_lazily_and_warns_of_nothing() -> None:
    """Kymatio is imported when features are computed, and not before."""
    code = (
        "import sys\n"
        "from dpigu.trainers.data import SPECS\n"
        "from dpigu.trainers.data.features.registry import feature_spec\n"
        "feature_spec(SPECS['mnist'], 'scattering')\n"
        "assert 'kymatio' not in sys.modules\n"
        "import torch, warnings\n"
        "from dpigu.trainers.data.features.scattering import Scattering\n"
        "warnings.simplefilter('error')\n"
        "print(tuple(Scattering((1, 8, 8))(torch.zeros(2, 1, 8, 8)).shape))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("(2, 81, 2, 2)\n", "")


def test_without_kymatio_its_extra_is_named(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "kymatio"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kymatio", None)
    with pytest.raises(ConfigurationError, match="pip install 'kymatio"):
        with_features(data, "scattering")
    assert not cache_folder().exists()


@pytest.mark.parametrize(
    ("shape", "want"),
    [
        ((1, 28, 28), (81, 7, 7)),
        ((3, 32, 32), (243, 8, 8)),
        ((1, 8, 8), (81, 2, 2)),
        ((2, 11, 9), (162, 2, 2)),
        ((1, 4, 13), (81, 1, 3)),
    ],
)
def test_shapes_are_known_beforehand(shape: tuple[int, ...], want: tuple[int, ...]) -> None:
    assert scattering_shape(shape) == Scattering(shape)(images(1, shape)).shape[1:] == want


@pytest.mark.numerical
def test_a_constant_image_has_no_waves() -> None:
    """S₀ is the constant, and every wavelet sums to 0."""
    s = Scattering((1, 8, 12))(torch.full((1, 1, 8, 12), 0.7))[0]
    torch.testing.assert_close(s[0], torch.full((2, 3), 0.7), rtol=0, atol=1e-3)
    assert s[1:].abs().max() < 1e-5


@pytest.mark.numerical
def test_features_of_a_record_are_its_own() -> None:
    x = images(5, (2, 8, 8))
    transform = Scattering((2, 8, 8))
    together = transform(x)
    assert together.shape == (5, 162, 2, 2)
    alone = torch.cat([transform(one[None]) for one in x])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    x[1:] = float("nan")
    torch.testing.assert_close(transform(x)[0], alone[0], rtol=0, atol=1e-6)


@pytest.mark.numerical
def test_channels_of_an_image_are_mapped_alike_one_after_the_other() -> None:
    x = images(1, (3, 8, 8))
    whole = Scattering((3, 8, 8))(x)
    parts = [Scattering((1, 8, 8))(x[:, [c]]) for c in range(3)]
    torch.testing.assert_close(whole, torch.cat(parts, 1), rtol=0, atol=1e-6)


def test_declared_constants_stay_what_they_were(data: Data) -> None:
    spec = with_features(data, "scattering").spec
    assert spec == feature_spec(data.spec, "scattering")
    assert (spec.name, spec.shape) == ("noise+scattering", (81, 2, 2))
    assert (spec.records, spec.classes, spec.scaling) == (70, 3, data.spec.scaling)


@pytest.mark.numerical
def test_features_are_the_maps_to_half_precision(data: Data) -> None:
    features = with_features(data, "scattering")
    want = Scattering((1, 8, 8))(data.train_x)
    torch.testing.assert_close(features.train_x, want, rtol=2**-11, atol=2e-6)
    assert features.train_x.dtype == torch.float32
    assert torch.equal(features.train_y, data.train_y)


def test_features_are_computed_once_and_kept_for_the_user_alone(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = os.umask(0o000)
    try:
        first = with_features(data, "scattering")
    finally:
        os.umask(old)
    kept = list(cache_folder().iterdir())
    assert len(kept) == 2  # training and held out
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}
    assert cache_folder().stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(Scattering, "__call__", refuse)
    assert torch.equal(with_features(data, "scattering").train_x, first.train_x)


def test_other_records_have_other_features(data: Data) -> None:
    first = with_features(data, "scattering")
    data.train_x[0] += 0.5
    second = with_features(data, "scattering")
    assert not torch.equal(first.train_x[0], second.train_x[0])
    assert torch.equal(first.train_x[1:], second.train_x[1:])


@pytest.mark.parametrize("damage", ["a bit", "the end"])
def test_a_damaged_file_is_made_again(
    data: Data, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = with_features(data, "scattering", progress=False)
    largest = max(cache_folder().iterdir(), key=lambda path: path.stat().st_size)
    raw = bytearray(largest.read_bytes())
    raw[100] ^= 1
    largest.write_bytes(raw if damage == "a bit" else raw[:-7])
    assert "damaged" not in capsys.readouterr().err
    assert torch.equal(with_features(data, "scattering", progress=False).train_x, first.train_x)
    assert "scattering of noise is damaged: made again" in capsys.readouterr().err
    with_features(data, "scattering", progress=False)
    assert "damaged" not in capsys.readouterr().err


def test_an_interruption_leaves_nothing_behind(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def interrupted(self: Scattering, x: Tensor) -> Tensor:
        calls.append(len(x))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return torch.zeros(len(x), 81, 2, 2)

    monkeypatch.setattr(Scattering, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        with_features(data, "scattering")
    assert len(calls) == 2
    assert list(cache_folder().iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said(data: Data, tmp_path: Path) -> None:
    (tmp_path / "dpigu").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="cannot be kept") as caught:
        with_features(data, "scattering")
    assert "XDG_CACHE_HOME" in str(caught.value)


def test_another_kymatio_does_not_take_the_features_of_this_one(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_features(data, "scattering")
    monkeypatch.setattr("importlib.metadata.version", lambda _: "0.3.99")
    with_features(data, "scattering")
    assert len(list(cache_folder().iterdir())) == 4


@pytest.mark.parametrize("shape", [(1, 3, 8), (1, 8, 3), (64,), (8, 8)])
def test_records_that_are_no_such_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="scattering takes images"):
        Scattering(shape)


def test_a_name_that_is_almost_right_is_offered(data: Data) -> None:
    with pytest.raises(ConfigurationError, match="Did you mean scattering"):
        with_features(data, "scatering")


@pytest.mark.numerical
def test_even_features_are_of_the_scattering_that_is_kept(data: Data) -> None:
    """A map of a map: groups of 27, 3 channels each, at norm 10; the inner one is computed once."""
    found = with_features(data, "even-scattering")
    inner = with_features(data, "scattering").train_x
    assert found.spec == feature_spec(data.spec, "even-scattering")
    assert found.spec.shape == (81 * 4,) and len(list(cache_folder().iterdir())) == 4
    groups = inner.double().view(70, 27, 12)
    centred = groups - groups.mean(2, keepdim=True)
    want = centred / (centred.square().mean(2, keepdim=True) + 1e-5).sqrt() * (10 / 18)
    torch.testing.assert_close(found.train_x.double(), want.flatten(1), rtol=0, atol=1e-3)
    assert (found.train_x.norm(dim=1) < 10 + 1e-2).all()
    with pytest.raises(DataError, match="channels"):
        feature_spec(found.spec, "even-scattering")
