from dpigu.trainers.optim.averaging import Average
from dpigu.trainers.optim.base import NoiseAware
from dpigu.trainers.optim.held import HeldOptimizer
from dpigu.trainers.optim.optimizers import OPTIMIZERS, AdamBC

__all__ = ["OPTIMIZERS", "AdamBC", "Average", "HeldOptimizer", "NoiseAware"]
