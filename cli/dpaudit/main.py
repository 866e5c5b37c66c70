"""`dpaudit` with all its commands: what is imported here is attached."""

from dpigu.cli.dpaudit import bound, campaign, card, mechanism, model, plan, replay, watch
from dpigu.cli.dpaudit.elsewhere import foreign, planted, scores
from dpigu.cli.dpaudit.group import main

__all__ = [
    "bound",
    "campaign",
    "card",
    "foreign",
    "main",
    "mechanism",
    "model",
    "plan",
    "planted",
    "replay",
    "scores",
    "watch",
]
