"""The wavelet scattering of images, by Kymatio: fixed public features, record by record.

S₀ = x ⋆ φ,  S₁ = |x ⋆ ψ_jk| ⋆ φ,  S₂ = ||x ⋆ ψ_0k| ⋆ ψ_1k'| ⋆ φ

with Morlet wavelets ψ_jk at the scales j = 0 and 1 (J = 2) and L = 8 angles k, and a Gaussian
window φ as wide as 2^J = 4 pixels: 1 + 16 + 64 = 81 channels for each of the image's.

Source: Bruna and Mallat 2013 (arXiv 1203.1513); Kymatio, arXiv 1812.11214.
"""

from __future__ import annotations

from dpigu.dpcore import ConfigurationError, DataError
from torch import Tensor

SCALES, ANGLES = 2, 8
CHANNELS = 1 + SCALES * ANGLES + ANGLES**2 * SCALES * (SCALES - 1) // 2
STEP = 2**SCALES  # pixels from one coefficient to the next
KYMATIO = "kymatio>=0.3,<0.4"


def scattering_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the features of a record C × H × W: 81C × ⌊H/4⌋ × ⌊W/4⌋.

    Raises: DataError for what is no such image, or is narrower than 4 pixels.
    """
    if len(shape) != 3 or min(shape[1:]) < STEP:
        raise DataError(
            "scattering takes images",
            got=shape,
            expected=f"(channels, height, width), from {STEP} × {STEP} on",
            remedy="Pad the images, or train without `features`.",
        )
    return CHANNELS * shape[0], shape[1] // STEP, shape[2] // STEP


class Scattering:
    """The scattering transform of images of one shape, to the second order.

    x, B × C × H × W, becomes B × 81C × ⌊H/4⌋ × ⌊W/4⌋, float32. Images are padded by reflection;
    no record's coefficients depend on another record.

    Args:
        shape: (C, H, W).

    Raises:
        ConfigurationError: Kymatio is not installed.
        DataError: records of another shape.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        scattering_shape(shape)
        try:  # here, since it is slow to import; `kymatio.torch` also imports what new SciPy broke
            from kymatio.scattering2d.frontend.torch_frontend import ScatteringTorch2D
        except ImportError as error:
            raise ConfigurationError(
                "scattering features need Kymatio",
                where="features",
                got=str(error),
                remedy=f"pip install '{KYMATIO}' (the extra 'scattering')",
            ) from error
        self._transform = ScatteringTorch2D(J=SCALES, L=ANGLES, shape=shape[1:])

    def __call__(self, x: Tensor) -> Tensor:
        coefficients: Tensor = self._transform(x.contiguous())
        return coefficients.flatten(1, 2)
