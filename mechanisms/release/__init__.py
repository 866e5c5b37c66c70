"""The noiser, and the post maps of what it released."""

from dpigu.mechanisms.release.buffered import BufferedToeplitz
from dpigu.mechanisms.release.denoisers import JamesStein, SoftThreshold
from dpigu.mechanisms.release.factorisations import BandedToeplitz
from dpigu.mechanisms.release.low_pass import LowPass
from dpigu.mechanisms.release.noisers import FloatGaussian, Gaussian
from dpigu.mechanisms.release.restorers import AffineRestorer
from dpigu.mechanisms.release.sharpness import Sharpness

__all__ = [
    "AffineRestorer",
    "BandedToeplitz",
    "BufferedToeplitz",
    "FloatGaussian",
    "Gaussian",
    "JamesStein",
    "LowPass",
    "Sharpness",
    "SoftThreshold",
]
