"""Features with groups of channels brought to mean 0 and variance 1 within the record, as a vector.

    x̂ = (x − mean of its group)/√(variance of its group + 1e-5), then times 10/√D

so a record has norm 10, or less where groups hardly vary (some 9 on MNIST).

Source: Tramèr and Boneh 2021 (arXiv 2011.11660), section 3: group normalisation with 27 groups.
"""

from __future__ import annotations

import math

from dpigu.dpcore import DataError
from dpigu.trainers.data.features import NORM
from torch import Tensor
from torch.nn import functional as F

GROUPS = 27  # the paper's choice for FashionMNIST


def even_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the vector of a record C × H × W: its length, CHW.

    Raises: DataError for a record that has no channels.
    """
    if len(shape) != 3:
        raise DataError(
            "groups of channels are of records with channels",
            got=shape,
            expected="(channels, height, width)",
        )
    return (math.prod(shape),)


class Even:
    """The vector of records of one shape: x, B × C × H × W, becomes B × CHW.

    Args:
        shape: (C, H, W).

    Raises: DataError for records of another shape.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        (self._length,) = even_shape(shape)
        self._groups = math.gcd(GROUPS, shape[0])

    def __call__(self, x: Tensor) -> Tensor:
        return F.group_norm(x, self._groups).flatten(1) * (NORM / math.sqrt(self._length))
