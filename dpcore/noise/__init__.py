"""Noise: the laws that a noiser may name, how they are drawn, and where their bits come from."""

from dpigu.dpcore.noise.laws import LAWS, Law, LawName, grid_of
from dpigu.dpcore.noise.rounded import rounded_gaussian
from dpigu.dpcore.noise.sources import NoiseSource, ReproducibleNoise, SystemNoise

__all__ = [
    "LAWS",
    "Law",
    "LawName",
    "NoiseSource",
    "ReproducibleNoise",
    "SystemNoise",
    "grid_of",
    "rounded_gaussian",
]
