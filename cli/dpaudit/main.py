"""`dpaudit` with all its commands: what is imported here is attached."""

from dpigu.cli.dpaudit import bound, foreign, mechanism, model, plan, replay, scores
from dpigu.cli.dpaudit.group import main

__all__ = ["bound", "foreign", "main", "mechanism", "model", "plan", "replay", "scores"]
