"""What a model is trained for: which targets fit, the loss of one record, and what is measured."""

from dpigu.trainers.tasks.metrics import Measure, Measured, Metric, Metrics, measured, told
from dpigu.trainers.tasks.task import CLASSIFICATION, TASKS, Task, task_named, task_of

__all__ = [
    "CLASSIFICATION",
    "TASKS",
    "Measure",
    "Measured",
    "Metric",
    "Metrics",
    "Task",
    "measured",
    "task_named",
    "task_of",
    "told",
]
