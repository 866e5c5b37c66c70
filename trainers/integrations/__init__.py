"""Bridges for those who come from other libraries."""

from dpigu.trainers.integrations.opacus import make_private

__all__ = ["make_private"]
