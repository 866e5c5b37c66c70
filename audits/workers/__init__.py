"""Many independent tasks side by side: on this machine's processes, or on a Ray cluster."""

from dpigu.audits.workers.spread import Workers, spread

__all__ = ["Workers", "spread"]
