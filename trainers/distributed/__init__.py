"""Training in many processes at once: torch.distributed's, as the ranks that step together."""

from dpigu.trainers.distributed.processes import Processes
from dpigu.trainers.distributed.start import check_same, here, joined, leaving

__all__ = ["Processes", "check_same", "here", "joined", "leaving"]
