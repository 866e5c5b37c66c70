"""Engines: from a model and a microbatch to rows, and how many records go at a time."""

from dpigu.trainers.engines.choice import (
    ENGINES,
    Traced,
    choose,
    choose_whole,
    microbatch_of,
    trace,
)
from dpigu.trainers.engines.explain import explain
from dpigu.trainers.engines.ghost import GhostEngine, reason_against
from dpigu.trainers.engines.guards import no_rules_of_users, reseeded
from dpigu.trainers.engines.materialising import MaterialisingEngine, row_gradients
from dpigu.trainers.engines.one_by_one import OneByOneEngine
from dpigu.trainers.engines.records import (
    Loss,
    LossOfOne,
    Tree,
    count_of,
    device_of,
)
from dpigu.trainers.engines.rows import Norms, PaddedRows, RowEngine, norms_of, trainable
from dpigu.trainers.engines.sharded import refuse_whole_rows

__all__ = [
    "ENGINES",
    "GhostEngine",
    "Loss",
    "LossOfOne",
    "MaterialisingEngine",
    "Norms",
    "OneByOneEngine",
    "PaddedRows",
    "RowEngine",
    "Traced",
    "Tree",
    "choose",
    "choose_whole",
    "count_of",
    "device_of",
    "explain",
    "microbatch_of",
    "no_rules_of_users",
    "norms_of",
    "reason_against",
    "refuse_whole_rows",
    "reseeded",
    "row_gradients",
    "trace",
    "trainable",
]
