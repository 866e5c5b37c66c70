"""Audits of what was trained elsewhere: scores, tables and models."""

from dpigu.audits.external.audit_scores import ScoresAudit, audit_planted, audit_scores
from dpigu.audits.external.foreign import foreign_scores
from dpigu.audits.external.planted import PlantedCanaries, plant, planted_scores
from dpigu.audits.external.signals import SIGNALS
from dpigu.audits.external.tables import read_arrays, read_scores

__all__ = [
    "SIGNALS",
    "PlantedCanaries",
    "ScoresAudit",
    "audit_planted",
    "audit_scores",
    "foreign_scores",
    "plant",
    "planted_scores",
    "read_arrays",
    "read_scores",
]
