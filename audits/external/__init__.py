"""Audits of what was trained elsewhere: scores, tables and models."""

from dpigu.audits.external.audit_scores import ScoresAudit, audit_scores
from dpigu.audits.external.foreign import foreign_scores
from dpigu.audits.external.tables import read_arrays, read_scores

__all__ = ["ScoresAudit", "audit_scores", "foreign_scores", "read_arrays", "read_scores"]
