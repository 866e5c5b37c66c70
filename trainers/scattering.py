"""The wavelet scattering of images: fixed public features, computed record by record.

S₀ = x ⋆ φ,  S₁ = |x ⋆ ψ_jk| ⋆ φ,  S₂ = ||x ⋆ ψ_0k| ⋆ ψ_1k'| ⋆ φ

with Morlet wavelets ψ_jk at the scales j = 0 and 1 (J = 2) and L = 8 angles k, and a Gaussian
window φ as wide as 2^J = 4 pixels: 1 + 16 + 64 = 81 channels for each of the image's.

Source: Bruna and Mallat 2013 (arXiv 1203.1513). The filters' constants and the order of the
channels are Kymatio's (arXiv 1812.11214), to which a test holds this.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpcore import DataError

Reals = NDArray[np.float64]
ANGLES, CHANNELS = 8, 81
PAD = STEP = 4  # 2^J: pixels of padding on each side, and pixels from one coefficient to the next
WIDTH, FREQUENCY = 0.8, 3 * math.pi / 4  # of the finest wavelets: pixels, radians a pixel


class Scattering:
    """The scattering transform of images of one shape, to the second order.

    x, B × C × H × W, becomes B × 81C × H/4 × W/4, float32. Images are padded by reflection; no
    record's coefficients depend on another record.

    Convolutions are products of spectra, folded onto the coarser grid before they are
    transformed back; the window is separable, so it is two small matrices.

    Args:
        shape: (C, H, W); H and W are multiples of 4, and at least 8.

    Raises:
        DataError: records of another shape.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 3 or any(side % STEP or side < 2 * STEP for side in shape[1:]):
            raise DataError(
                "scattering takes images whose sides are multiples of 4",
                got=shape,
                expected="(channels, height, width), from 8 × 8 on",
                remedy="Pad the images, or train without --features.",
            )
        rows, columns = (side + 2 * PAD for side in shape[1:])
        self.shape = (CHANNELS * shape[0], shape[1] // STEP, shape[2] // STEP)
        self._wavelets = [[_morlet(rows, columns, j, k) for k in range(ANGLES)] for j in range(2)]
        self._windows = [(_window(rows, j), _window(columns, j)) for j in range(2)]

    def __call__(self, x: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(x, (PAD,) * 4, mode="reflect")
        spectrum = torch.fft.fft2(padded)
        fine, coarse = self._moduli(spectrum, 0), self._moduli(spectrum, 1)
        finer = self._moduli(torch.fft.fft2(fine), 1)  # B × C × angle of ψ₁ × angle of ψ₀ × …
        orders = (
            self._smooth(padded, 0)[:, :, None],
            self._smooth(fine, 0),
            self._smooth(coarse, 1),
            self._smooth(finer, 1).transpose(2, 3).flatten(2, 3),
        )
        return torch.cat(orders, 2).flatten(1, 2)

    def _moduli(self, spectrum: Tensor, scale: int) -> Tensor:
        """|x ⋆ ψ| at every angle of a scale, on its grid: the angles go after the channels."""
        waves = [torch.fft.ifft2(_product(spectrum, w, 2**scale)) for w in self._wavelets[scale]]
        return torch.stack([(w.real.square() + w.imag.square()).sqrt_() for w in waves], 2)

    def _smooth(self, x: Tensor, scale: int) -> Tensor:
        """x ⋆ φ from a scale's grid on every fourth pixel, without the padding."""
        rows, columns = self._windows[scale]
        return rows @ x @ columns.T


def _product(spectrum: Tensor, filtered: Tensor, fold: int) -> Tensor:
    """The product of two spectra, its aliases summed: subsampling by `fold` in space."""
    height, width = (side // fold for side in spectrum.shape[-2:])
    total = spectrum[..., :height, :width] * filtered[:height, :width]
    for i, j in list(np.ndindex(fold, fold))[1:]:
        block = (..., slice(i * height, (i + 1) * height), slice(j * width, (j + 1) * width))
        total.addcmul_(spectrum[block], filtered[block])
    return total


def _morlet(rows: int, columns: int, scale: int, angle: int) -> Tensor:
    """The spectrum of a Morlet wavelet, over the fold's 4^scale: real, held as complex64.

    ψ(u) = g(u)(e^{iξu} − β), with β such that Σψ = 0
    """
    wave = _gabor(rows, columns, scale, angle, FREQUENCY / 2**scale)
    envelope = _gabor(rows, columns, scale, angle, 0.0)
    spectrum = np.fft.fft2(wave - wave.sum() / envelope.sum() * envelope).real / 4**scale
    return torch.from_numpy(spectrum).to(torch.complex64)


def _gabor(
    rows: int, columns: int, scale: int, angle: int, frequency: float
) -> NDArray[np.complex128]:
    """A wave under an elliptic Gaussian of unit sum, made periodic."""
    width, slant = WIDTH * 2**scale, 4 / ANGLES
    turn = (ANGLES // 2 - 1 - angle) * math.pi / ANGLES
    u, v = np.arange(-2 * rows, 3 * rows)[:, None], np.arange(-2 * columns, 3 * columns)
    along = u * math.cos(turn) + v * math.sin(turn)
    across = slant * (v * math.cos(turn) - u * math.sin(turn))
    exponent = 1j * frequency * along - (along**2 + across**2) / (2 * width**2)
    gabor = np.exp(exponent) * slant / (2 * math.pi * width**2)
    periodic: NDArray[np.complex128] = gabor.reshape(5, rows, 5, columns).sum((0, 2))
    return periodic


def _window(side: int, scale: int) -> Tensor:
    """The matrix that smooths one axis from a scale's grid and takes every fourth pixel.

    Its spectrum is the Gaussian's on the finest grid, without the frequencies that a coarser
    grid lacks.
    """
    width, u = WIDTH * 2, np.arange(-2 * side, 3 * side)
    gaussian = np.exp(-(u**2) / (2 * width**2)) / math.sqrt(2 * math.pi * width**2)
    spectrum = np.fft.fft(gaussian.reshape(5, side).sum(0)).real
    points = side >> scale
    kept = np.r_[spectrum[: points // 2], spectrum[side - points // 2 :]] if scale else spectrum
    kernel = np.fft.ifft(kept).real
    step = STEP >> scale
    taken = np.arange(1, side // STEP - 1)[:, None] * step
    return torch.from_numpy(kernel[(taken - np.arange(points)) % points]).float()
