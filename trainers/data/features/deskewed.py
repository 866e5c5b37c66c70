"""Handwriting brought upright: each picture moved and sheared by its own moments.

    y(i, j) = x(m_i + i, m_j + j + α·i),  α = Σ w·δi·δj / Σ w·δi²,  w = x − min x

with i, j counted from the middle of the picture and m the centre of mass, both in pixels; δi, δj
are distances from m. It is for light ink on a dark ground. Values between pixels are bilinear, and
what comes from outside the picture is its least value. A record's picture depends on that record
alone.

Source: LeCun, Bottou, Bengio and Haffner 1998 (Proc. IEEE 86), section III.A, where such pictures
are called deslanted, and w is 1 for ink and 0 elsewhere.
"""

from __future__ import annotations

import math

import torch
from dpigu.dpcore import DataError
from dpigu.trainers.data.features.even import Even, even_shape
from dpigu.trainers.data.features.scattering import Scattering, scattering_shape
from torch import Tensor
from torch.nn import functional as F

_LEAST = 1e-6  # of a sum of weights: a picture of one value stays where it is


def deskewed_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a record C × H × W once upright: the same.

    Raises: DataError for what is no picture.
    """
    if len(shape) != 3:
        raise DataError(
            "only pictures can be deskewed", got=shape, expected="(channels, height, width)"
        )
    return shape


class Deskewed:
    """Pictures of one shape brought upright: B × C × H × W becomes as many of that shape.

    Args:
        shape: (C, H, W).

    Raises: DataError for a shape of no picture.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        _, height, width = deskewed_shape(shape)
        self._i_H1 = torch.arange(height)[:, None] - (height - 1) / 2
        self._j_W = torch.arange(width) - (width - 1) / 2

    def __call__(self, x: Tensor) -> Tensor:
        least_B111 = x.amin((1, 2, 3), keepdim=True)
        w_BHW = (x - least_B111).sum(1)
        mass_B11 = w_BHW.sum((1, 2), keepdim=True).clamp(min=_LEAST)
        m_i, m_j = (
            (w_BHW * at).sum((1, 2), keepdim=True) / mass_B11 for at in (self._i_H1, self._j_W)
        )
        off_i, off_j = self._i_H1 - m_i, self._j_W - m_j
        tall_B11 = (w_BHW * off_i.square()).sum((1, 2), keepdim=True).clamp(min=_LEAST)
        slant_B11 = (w_BHW * off_i * off_j).sum((1, 2), keepdim=True) / tall_B11
        from_i = (m_i + self._i_H1).expand_as(w_BHW)
        from_j = m_j + self._j_W + slant_B11 * self._i_H1
        sides = (len(self._j_W) / 2, len(self._i_H1) / 2)  # grid_sample takes −1 to 1, edge to edge
        grid_BHW2 = torch.stack([from_j / sides[0], from_i / sides[1]], 3)
        return F.grid_sample(x - least_B111, grid_BHW2, align_corners=False) + least_B111


def deskewed_scattering_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The length of the scattering features of a record C × H × W, as it is and deskewed.

    Raises: DataError for what is no picture, or is narrower than 4 pixels.
    """
    (length,) = even_shape(scattering_shape(deskewed_shape(shape)))
    return (2 * length,)


class DeskewedScattering:
    """The scattering of pictures as they are beside that of the same deskewed, as a vector.

    Each half is normalised within groups of channels; together their norm is at most 10.

    Args:
        shape: (C, H, W).

    Raises:
        ConfigurationError: Kymatio is not installed.
        DataError: a shape of no picture.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._upright = Deskewed(shape)
        self._scattering = Scattering(shape)
        self._even = Even(scattering_shape(shape))

    def __call__(self, x: Tensor) -> Tensor:
        halves = (self._even(self._scattering(picture)) for picture in (x, self._upright(x)))
        return torch.cat(tuple(halves), 1) / math.sqrt(2)
