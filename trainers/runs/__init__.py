"""The run folder: its files, checkpoints, summary, statement and picture, and the way back."""

from dpigu.trainers.runs.checkpoint import Checkpoint
from dpigu.trainers.runs.folder import CONFIGURATION, LEDGER, RunFolder, versions
from dpigu.trainers.runs.ledger_file import LedgerFile

__all__ = ["CONFIGURATION", "LEDGER", "Checkpoint", "LedgerFile", "RunFolder", "versions"]
