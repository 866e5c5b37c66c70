"""Statistics that are released in a phase of their own, beside no gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from dpigu.dpcore import Record, Release, Space, State, register
from torch import Tensor


@register("statistic", "channel-moments")
@dataclass(frozen=True, kw_only=True)
class ChannelMoments:
    """Each channel's mean and mean square, for a layer that normalises by them.

    z = (mean over positions of x_c, of x_c²) for c = 1 … C: 2C numbers, clipped jointly

    The phase's buffers are the running mean of its releases:
    new = old + (released − old)/(step + 1).

    Args:
        module: the layer's name in the model; its buffers `<module>.mean` and
            `<module>.square` (length C) are what is fitted. It must be the model's first, since
            the rows are of the records as the model is given them, C × …; of a vector, each
            coordinate is a channel.

    Errors: a model without these buffers is refused before anything is spent.
    Source: Tramèr and Boneh 2021 (arXiv 2011.11660), section 3; there each half is released once,
    from a full pass at a noise of its own, clipped at a median that was read off the private
    records and not charged. Here the bound is a constant, and each step releases both halves.
    Privacy: the row of one record, clipped to the phase's bound; fitted from releases only;
    checked by tests/mechanisms/statistics/test_moments.py.
    """

    module: str = "norm"

    def row_space(self, parameters: Space, shape: tuple[int, ...]) -> Space:
        return Space.flat("channel moments", 2 * shape[0])

    def row_of(self, state: State, record: Record) -> Tensor:
        x_CP = record.x.reshape(len(record.x), -1)
        return torch.cat([x_CP.mean(1), x_CP.square().mean(1)])

    def fits(self, shape: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
        return {f"{self.module}.{half}": shape[:1] for half in ("mean", "square")}

    def fitted(self, buffers: Mapping[str, Tensor], release: Release) -> Mapping[str, Tensor]:
        halves = release.gradient.value.chunk(2)
        share = 1 / (release.clock.step + 1)
        return {
            name: buffers[name] + share * (half.to(buffers[name].dtype) - buffers[name])
            for name, half in zip(self.fits((len(halves[0]),)), halves, strict=True)
        }
