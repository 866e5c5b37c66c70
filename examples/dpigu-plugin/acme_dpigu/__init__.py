"""Two stages for dpigu: one that is affine, and one that is not."""

from acme_dpigu.stages import FanInScale, SoftClamp

__all__ = ["FanInScale", "SoftClamp"]
