"""`dpigu` with all its commands: what is imported here is attached."""

from dpigu.cli.dpigu import (
    account,
    account_group,
    account_ledger,
    account_tuning,
    budget,
    describe,
    presets,
    stages,
    stages_check,
    stages_show,
    train,
)
from dpigu.cli.dpigu.group import main

__all__ = [
    "account",
    "account_group",
    "account_ledger",
    "account_tuning",
    "budget",
    "describe",
    "main",
    "presets",
    "stages",
    "stages_check",
    "stages_show",
    "train",
]
