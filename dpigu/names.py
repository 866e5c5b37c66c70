"""The names that options take, each listed once.

Private. Nothing is loaded here, so that the command line's help stays quick; what a name stands
for is in the room that is named beside it.
"""

from __future__ import annotations

from typing import Literal, get_args

AccountantName = Literal["rdp", "prv", "pld"]
"""`dpigu.accountants`: who states ε."""
OptimizerName = Literal["sgd", "adam", "adam-bc", "muon", "shampoo"]
"""`dpigu.trainers.optim`: what steps along the released gradient."""
ScheduleName = Literal["constant", "linear", "cosine"]
"""`dpigu.trainers.settings`: the learning rate over the steps."""
AveragingName = Literal["none", "ema", "tail"]
"""`dpigu.trainers.optim`: which weights are evaluated and kept."""
EngineName = Literal["auto", "ghost", "materialising", "one-by-one"]
"""`dpigu.trainers.engines`: how rows are formed."""
CanaryName = Literal["mislabelled", "records", "random", "blank", "gradient"]
"""`dpigu.audits.canaries`: what a coin decides on."""
TaskName = Literal[
    "classification",
    "multi-label",
    "binary",
    "regression",
    "token-classification",
    "causal-lm",
    "masked-lm",
    "seq2seq",
    "other",
]
"""`dpigu.trainers.tasks`: what a model is trained for."""

ACCOUNTANT_NAMES: tuple[AccountantName, ...] = get_args(AccountantName)
OPTIMIZER_NAMES: tuple[OptimizerName, ...] = get_args(OptimizerName)
SCHEDULE_NAMES: tuple[ScheduleName, ...] = get_args(ScheduleName)
AVERAGING_NAMES: tuple[AveragingName, ...] = get_args(AveragingName)
ENGINE_NAMES: tuple[EngineName, ...] = get_args(EngineName)
CANARY_NAMES: tuple[CanaryName, ...] = get_args(CanaryName)
TASK_NAMES: tuple[TaskName, ...] = get_args(TaskName)
