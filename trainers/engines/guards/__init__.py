"""What keeps records apart in a model: it keeps nothing, and draws what nobody knows."""

from dpigu.trainers.engines.guards.kept import Kept
from dpigu.trainers.engines.guards.randomness import reseeded
from dpigu.trainers.engines.guards.rules import RuleOfUser, no_checkpoints, no_rules_of_users
from dpigu.trainers.engines.guards.watch import Watch

__all__ = ["Kept", "RuleOfUser", "Watch", "no_checkpoints", "no_rules_of_users", "reseeded"]
