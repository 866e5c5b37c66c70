"""`dpigu` with all its commands: what is imported here is attached."""

from dpigu.cli.dpigu import budget, compare, describe, explain, fix, presets
from dpigu.cli.dpigu.account import commands as account
from dpigu.cli.dpigu.account import group as account_group
from dpigu.cli.dpigu.account import ledger as account_ledger
from dpigu.cli.dpigu.account import tuning as account_tuning
from dpigu.cli.dpigu.group import main
from dpigu.cli.dpigu.plugin import command as plugin
from dpigu.cli.dpigu.stages import check as stages_check
from dpigu.cli.dpigu.stages import commands as stages
from dpigu.cli.dpigu.stages import show as stages_show
from dpigu.cli.dpigu.train import command as train

__all__ = [
    "account",
    "account_group",
    "account_ledger",
    "account_tuning",
    "budget",
    "compare",
    "describe",
    "explain",
    "fix",
    "main",
    "plugin",
    "presets",
    "stages",
    "stages_check",
    "stages_show",
    "train",
]
