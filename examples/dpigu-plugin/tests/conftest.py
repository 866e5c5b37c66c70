"""Hypothesis for this suite: the same examples every time, and 25 of each."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("quick", max_examples=25, derandomize=True)
settings.load_profile("quick")
