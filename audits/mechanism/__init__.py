"""The audit of a mechanism: its own kernel on neighbouring batches, without training."""

from dpigu.audits.mechanism.audit import audit_mechanism
from dpigu.audits.mechanism.report import MechanismAudit, MechanismTest

__all__ = ["MechanismAudit", "MechanismTest", "audit_mechanism"]
