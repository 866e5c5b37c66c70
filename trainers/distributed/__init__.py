"""Training in many processes at once: torch.distributed's, as the ranks that step together."""

from dpigu.trainers.distributed.processes import Processes, told_of_ends
from dpigu.trainers.distributed.sharding import (
    all_whole,
    freeing,
    is_sharded,
    kind_of,
    own,
    refuse_other_sharding,
    replicated,
    sharded_as,
    whole,
)
from dpigu.trainers.distributed.start import check_same, here, joined, leaving

__all__ = [
    "Processes",
    "all_whole",
    "check_same",
    "freeing",
    "here",
    "is_sharded",
    "joined",
    "kind_of",
    "leaving",
    "own",
    "refuse_other_sharding",
    "replicated",
    "sharded_as",
    "told_of_ends",
    "whole",
]
